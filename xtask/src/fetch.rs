//! Test data from packages.

use std::path::PathBuf;
use std::process::Command;

/// The last version of the package with its cases on disk.
const ONNX: &str = "onnx==1.22.0";

/// The folder of the ONNX backend tests, fetched once into `.cache`.
pub fn onnx_cases() -> Result<PathBuf, String> {
    let cache = crate::root().join(".cache/onnx");
    let data = cache.join("onnx/backend/test/data");
    if data.is_dir() {
        return Ok(data);
    }
    let wheels = crate::root().join(".cache/wheels");
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "-d"];
    crate::run(Command::new("python3").args(pip).arg(&wheels).arg(ONNX))?;
    let entries = std::fs::read_dir(&wheels).map_err(|e| format!("{}: {e}", wheels.display()))?;
    let wheel = entries.flatten().map(|e| e.path()).find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("onnx-")));
    let wheel = wheel.ok_or("pip downloaded no onnx wheel")?;
    crate::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&cache))?;
    Ok(data)
}
