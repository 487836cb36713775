//! The runtime's and the models' tests on 64-bit Arm, with its NEON kernels, through qemu's user mode.

use crate::{Outcome, run};
use std::process::Command;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const RUNNER: &str = "qemu-aarch64";

/// Runs them.
///
/// # Errors
/// Where a test fails, or what is needed is not there.
pub fn arm() -> Outcome {
    for tool in [LINKER, RUNNER] {
        if Command::new(tool).arg("--version").output().is_err() {
            return Err(format!(
                "there is no {tool}: install qemu-user, the cross compiler and its C library (Debian: qemu-user, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross)"
            ));
        }
    }
    run(Command::new("rustup").args(["target", "add", TARGET]))?;
    run(Command::new("cargo")
        .args(["test", "--release", "--quiet", "--target", TARGET, "-p", "wpk-rt", "-p", "wpk-tests"])
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("{RUNNER} -L /usr/aarch64-linux-gnu")))
}
