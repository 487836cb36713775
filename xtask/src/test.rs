//! Every check, as CI runs it.

use crate::{Outcome, conformance, fetch, generated, run};
use std::process::Command;

/// Formatting, lints, documentation, tests on every instruction set, conformance, generated code and fuzzing.
pub fn test() -> Outcome {
    let cargo = |args: &[&str]| run(Command::new("cargo").args(args));
    let step = |name: &str| println!("== {name}");
    step("format");
    cargo(&["fmt", "--all", "--check"])?;
    step("lints");
    cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    step("documentation");
    run(Command::new("cargo")
        .args(["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings"))?;
    step("tests");
    fetch::onnx_cases()?;
    let mut tests = Command::new("cargo");
    tests.args(["test", "--workspace", "--quiet"]);
    if let Some(ptxas) = fetch::ptxas()? {
        tests.env("WPK_PTXAS", ptxas);
    }
    run(&mut tests)?;
    cargo(&["test", "-p", "wpk", "-p", "wpk-rt", "--all-features", "--quiet"])?;
    for isa in ["portable", "avx2", "avx512"] {
        step(&format!("kernels on {isa}"));
        run(Command::new("cargo")
            .args(["test", "-p", "wpk-tests", "--test", "kernels", "--test", "quantized", "--quiet"])
            .env("WPK_ISA", isa))?;
    }
    step("conformance");
    conformance::conformance(&[])?;
    step("conformance of GPU plans in the emulator");
    conformance::conformance(&["--emulated".to_owned()])?;
    step("generated code");
    generated::generated()?;
    step("damaged models");
    // With overflow checks, as build scripts run.
    cargo(&["run", "--quiet", "--package", "xtask", "--", "fuzz", "20000"])?;
    step("done");
    Ok(())
}
