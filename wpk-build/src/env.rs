//! The build's environment: the one place that reads variables and speaks to cargo.

/// A variable, announced to cargo so that a change rebuilds.
pub(crate) fn var(name: &str) -> Option<String> {
    // Cargo itself reruns scripts when its own variables change.
    if !matches!(name, "OUT_DIR" | "CARGO_MANIFEST_DIR") {
        directive("rerun-if-env-changed", name);
    }
    std::env::var(name).ok()
}

/// A variable that only matters to where and whether this build tunes: of these, our own are announced.
pub(crate) fn ambient(name: &str) -> Option<String> {
    if name.starts_with("WPK_") { var(name) } else { std::env::var(name).ok() }
}

/// One line for cargo.
#[allow(clippy::print_stdout, reason = "build scripts speak to cargo on standard output")]
pub(crate) fn directive(kind: &str, value: &str) {
    println!("cargo::{kind}={value}");
}
