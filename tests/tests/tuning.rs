//! Whether and how builds tune what has no record.

use std::path::{Path, PathBuf};
use wpk_build::tuning::{Settings, arguments, settings};
use wpk_build::{Model, Precision};

/// A machine with a GPU and the command line.
const MACHINE: &[(&str, &str)] = &[("PATH", "/usr/bin:/home/me/.cargo/bin"), ("HOME", "/home/me")];

/// What a build does on that machine with further variables.
fn check(more: &[(&str, &str)], expected: Result<(&str, f64), Option<&str>>) {
    let variable = |name: &str| more.iter().chain(MACHINE).find(|v| v.0 == name).map(|v| v.1.to_owned());
    let exists = |p: &Path| [Path::new("/dev/nvidia0"), Path::new("/home/me/.cargo/bin/cargo-wpk")].contains(&p);
    let found = settings(variable, exists);
    let found = found.as_ref().map(|s| (s.tuner.to_str().unwrap_or_default(), s.budget)).map_err(|e| e.as_deref());
    assert_eq!(found, expected, "{more:?}");
}

#[test]
fn builds_tune_where_somebody_waits_for_them() {
    let (own, silent) = (Ok(("/home/me/.cargo/bin/cargo-wpk", 60.0)), Err(None));
    check(&[], own);
    check(&[("WPK_TUNE", "on")], own);
    check(&[("WPK_TUNE", "off")], silent);
    check(&[("CI", "true")], silent);
    check(&[("CI", "false")], own);
    check(&[("DOCS_RS", "1")], silent);
    check(&[("RUSTC_WRAPPER", "/opt/rust-analyzer")], silent);
    check(&[("RA_RUSTC_WRAPPER", "1")], silent);
    check(&[("WPK_TUNE_BUDGET", "5s")], Ok(("/home/me/.cargo/bin/cargo-wpk", 5.0)));
    check(&[("WPK_TUNER", "/opt/wpk")], Ok(("/opt/wpk", 60.0)));
    check(&[("PATH", "/usr/bin")], Err(Some("cargo-wpk is not in the path; `cargo install cargo-wpk` brings it")));
}

#[test]
fn a_search_has_the_options_of_the_build() {
    let settings = Settings { tuner: PathBuf::new(), budget: 5.0, out: PathBuf::from("/cache/tune") };
    let model = Model::new("m.onnx").precision(Precision::Bf16).dim("batch", [4, 8]).shape("x", &[1, 3]).keep_fp32("/head/*");
    let found = arguments(&model, "sm_90a", &settings).map(|a| a.join(" "));
    let expected = "tune m.onnx --gpu sm_90a --device 0 --precision bf16 --budget 5 --out /cache/tune --resume --dim batch=4 --shape x=1x3 \
                    --keep-fp32 /head/*";
    assert_eq!(found.as_deref(), Some(expected));
    assert_eq!(arguments(&model.image("x", &[0.5], &[0.5]), "sm_90a", &settings), None);
}
