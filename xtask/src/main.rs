//! Checks that run alike here and in CI: `cargo xtask test`, `cargo xtask conformance`, `cargo xtask fuzz`.

mod arm;
mod case;
mod conformance;
mod fetch;
mod fuzz;
mod generated;
mod test;

use std::process::ExitCode;

/// What a command ends with: success, or what to tell.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let outcome = match args.first().map(String::as_str) {
        Some("arm") => arm::arm(),
        Some("test") => test::test(),
        Some("conformance") => conformance::conformance(rest),
        Some("generated") => generated::generated(),
        Some("fuzz") => fuzz::fuzz(rest),
        _ => Err("usage: cargo xtask test | arm | conformance [--bless | --emulated] [NAME] | generated | fuzz [COUNT] [SEED]".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder.
fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(std::path::Path::to_owned).unwrap_or_default()
}

/// Runs a command and fails with its name.
fn run(command: &mut std::process::Command) -> Outcome {
    let status = command.current_dir(root()).status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed")) }
}
