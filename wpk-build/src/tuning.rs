//! Tuning within a build: where records are missing and a GPU is there, `cargo-wpk tune` is started, bounded in time, and writes to the
//! user's cache, so that it is paid once. Build scripts measure nothing themselves.

use crate::hash;
use crate::model::{Model, Precision};
use crate::records;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Seconds for a model where `WPK_TUNE_BUDGET` says nothing.
const BUDGET: f64 = 60.0;
/// How much longer than its budget a search may take before it is ended: it finishes what it has begun, and times whole plans.
const GRACE: Duration = Duration::from_secs(120);

/// How a build tunes.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The `cargo-wpk` that is started.
    pub tuner: PathBuf,
    /// Seconds for a model.
    pub budget: f64,
    /// Where records go.
    pub out: PathBuf,
}

/// Whether this build may tune, by its environment; else the reason, and nothing where it was told not to or nobody would read it.
///
/// # Errors
/// Why not.
pub fn settings(variable: impl Fn(&str) -> Option<String>, exists: impl Fn(&Path) -> bool) -> Result<Settings, Option<String>> {
    let set = |name: &str| variable(name).is_some_and(|v| !v.is_empty() && v != "0" && v != "false");
    let off = variable("WPK_TUNE").is_some_and(|v| ["off", "0", "never"].contains(&v.as_str()));
    let analyzer = ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"].iter().any(|n| variable(n).is_some_and(|v| v.contains("rust-analyzer")));
    if off || analyzer || ["CI", "DOCS_RS", "RA_RUSTC_WRAPPER"].into_iter().any(set) {
        return Err(None);
    }
    // The devices of Linux, of WSL, and the driver of Windows.
    let devices = ["/dev/nvidia0", "/dev/dxg", "C:\\Windows\\System32\\nvcuda.dll"];
    if !devices.iter().any(|d| exists(Path::new(d))) {
        return Err(None);
    }
    let path = variable("PATH").unwrap_or_default();
    let name = format!("cargo-wpk{}", std::env::consts::EXE_SUFFIX);
    let found = std::env::split_paths(&path).map(|f| f.join(&name)).find(|p| exists(p));
    let tuner = variable("WPK_TUNER").map(PathBuf::from).or(found);
    let tuner = tuner.ok_or_else(|| Some("cargo-wpk is not in the path; `cargo install cargo-wpk` brings it".to_owned()))?;
    let budget = variable("WPK_TUNE_BUDGET").and_then(|v| v.trim_end_matches('s').parse().ok()).unwrap_or(BUDGET);
    let out = records::user_folder(variable).ok_or_else(|| Some("there is no folder for caches; WPK_CACHE_DIR may name one".to_owned()))?;
    Ok(Settings { tuner, budget, out })
}

/// Whether the command line can say what the builder says.
pub fn is_said(model: &Model) -> bool {
    let own = &model.options;
    own.images.is_empty() && own.bind.is_empty() && own.custom.is_empty()
}

/// The arguments of a search for a model on an architecture; `None` where the command line cannot say what the builder says.
pub fn arguments(model: &Model, arch: &str, settings: &Settings) -> Option<Vec<String>> {
    if !is_said(model) {
        return None;
    }
    let precision = match model.precision {
        Precision::Fp32 => "fp32",
        Precision::Tf32 => "tf32",
        Precision::Fp16 => "fp16",
        Precision::Bf16 => "bf16",
    };
    let text = |s: &str| s.to_owned();
    let mut all = vec![text("tune"), model.path.display().to_string(), text("--gpu"), text(arch), text("--device"), text("0")];
    all.extend([text("--precision"), text(precision), text("--budget"), settings.budget.to_string()]);
    all.extend([text("--out"), settings.out.display().to_string(), text("--resume")]);
    for dim in &model.dims {
        let size = if dim.least.is_some() { dim.sizes.last() } else { dim.sizes.first() };
        all.extend([text("--dim"), format!("{}={}", dim.name, size?)]);
    }
    for (name, shape) in &model.options.shapes {
        let extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
        all.extend([text("--shape"), format!("{name}={}", extents.join("x"))]);
    }
    if !model.keep_fp32.is_empty() {
        all.extend([text("--keep-fp32"), model.keep_fp32.join(",")]);
    }
    if !model.libraries {
        all.push(text("--no-libraries"));
    }
    Some(all)
}

/// Starts a search and waits for its end; what it says goes to the terminal, where there is one. A model that was searched before is not
/// searched again.
///
/// # Errors
/// Why there is nothing new.
pub fn tune(arguments: &[String], settings: &Settings, plan: &[u8]) -> Result<(), Option<String>> {
    let tried = settings.out.with_file_name("tried").join(hash::hex(plan));
    if tried.exists() {
        return Err(None);
    }
    let version =
        Command::new(&settings.tuner).arg("--version").output().map_err(|e| Some(format!("{}: {e}", settings.tuner.display())))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    if version.rsplit(' ').next() != Some(env!("CARGO_PKG_VERSION")) {
        return Err(Some(format!("{} is {version:?}, not of version {}", settings.tuner.display(), env!("CARGO_PKG_VERSION"))));
    }
    // Cargo keeps what build scripts say to itself: the terminal is the only live channel.
    let terminal = File::options().write(true).open("/dev/tty").map_or_else(|_| Stdio::null(), Stdio::from);
    let mut command = Command::new(&settings.tuner);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(terminal);
    let mut search = command.spawn().map_err(|e| Some(format!("{}: {e}", settings.tuner.display())))?;
    let end = Instant::now() + Duration::from_secs_f64(settings.budget) + GRACE;
    let status = loop {
        match search.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            _ => break None,
        }
    };
    let Some(status) = status else {
        let _ = search.kill().and_then(|()| search.wait());
        return Err(Some("the search did not end in time".to_owned()));
    };
    if !status.success() {
        return Err(Some(format!("the search ended with {status}")));
    }
    records::write_whole(&tried, b"").map_err(|e| Some(e.to_string()))
}
