//! Test data from packages.

use std::path::PathBuf;
use std::process::Command;

/// The last version of the package with its cases on disk.
const ONNX: &str = "onnx==1.22.0";

/// The assembler of PTX.
const PTXAS: &str = "nvidia-cuda-nvcc==13.5.37";

/// The folder of the ONNX backend tests.
pub fn onnx_cases() -> Result<PathBuf, String> {
    unpacked(ONNX, "onnx").map(|dir| dir.join("onnx/backend/test/data"))
}

/// The `ptxas` that checks generated PTX, where there is one for this machine.
pub fn ptxas() -> Result<Option<PathBuf>, String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        println!("no ptxas for this machine: generated PTX is not assembled");
        return Ok(None);
    }
    let path = unpacked(PTXAS, "ptxas")?.join("nvidia/cu13/bin/ptxas");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(Some(path))
}

/// A package's wheel, fetched and unpacked into `.cache` once.
fn unpacked(package: &str, name: &str) -> Result<PathBuf, String> {
    let target = crate::root().join(".cache").join(name);
    let done = target.join("unpacked");
    if done.is_file() {
        return Ok(target);
    }
    let wheels = crate::root().join(".cache/wheels").join(name);
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "-d"];
    crate::run(Command::new("python3").args(pip).arg(&wheels).arg(package))?;
    let entries = std::fs::read_dir(&wheels).map_err(|e| format!("{}: {e}", wheels.display()))?;
    let wheel = entries.flatten().map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "whl"));
    let wheel = wheel.ok_or_else(|| format!("pip downloaded no wheel of {package}"))?;
    crate::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&target))?;
    // An interrupted unpacking leaves no mark and is done again.
    std::fs::write(&done, package).map_err(|e| format!("{}: {e}", done.display()))?;
    Ok(target)
}
