//! What `ptxas` makes of a model's kernels: registers, shared memory, spills.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use wpk_plan::{GpuPlans, Module};

/// The largest of each over some kernels.
#[derive(Default)]
struct Figures {
    kernels: usize,
    registers: u64,
    shared: u64,
    spilled: u64,
    bytes: usize,
    seconds: f64,
}

/// Assembles every kernel of an architecture's plans and prints the largest figures by family.
///
/// # Errors
/// Where `ptxas` does not run or refuses a kernel.
pub fn print(ptxas: &Path, gpu: &GpuPlans) -> Result<(), String> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(vec![]));
    let work = || {
        while let Some(module) = gpu.modules.get(next.fetch_add(1, Ordering::Relaxed)) {
            let figures = assemble(ptxas, &gpu.arch, module);
            found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((module.entry.clone(), figures));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|s| (0..threads).for_each(|_| drop(s.spawn(work))));
    let mut families: BTreeMap<String, Figures> = BTreeMap::new();
    for (entry, figures) in found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        let (new, all) = (figures?, families.entry(entry).or_default());
        *all = Figures {
            kernels: all.kernels + new.kernels,
            registers: all.registers.max(new.registers),
            shared: all.shared.max(new.shared),
            spilled: all.spilled.max(new.spilled),
            bytes: all.bytes.max(new.bytes),
            seconds: all.seconds.max(new.seconds),
        };
    }
    println!("{:8} {:12} kernels registers shared spilled PTX-bytes seconds", "arch", "family");
    for (family, f) in families {
        let Figures { kernels, registers, shared, spilled, bytes, seconds } = f;
        println!("{:8} {family:12} {kernels:7} {registers:9} {shared:6} {spilled:7} {bytes:9} {seconds:7.2}", gpu.arch);
    }
    Ok(())
}

fn assemble(ptxas: &Path, arch: &str, module: &Module) -> Result<Figures, String> {
    let id = std::thread::current().id();
    let path = std::env::temp_dir().join(format!("wpk-{}-{id:?}.ptx", std::process::id()));
    std::fs::write(&path, &module.text).map_err(|e| format!("{}: {e}", path.display()))?;
    let start = Instant::now();
    let arguments = [&format!("-arch={arch}"), "-v", "-o", "/dev/null"];
    let output = Command::new(ptxas).args(arguments).arg(&path).output().map_err(|e| format!("{}: {e}", ptxas.display()));
    let seconds = start.elapsed().as_secs_f64();
    let _ = std::fs::remove_file(&path);
    let output = output?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{} for {arch}: {log}", module.entry));
    }
    let registers = before(&log, " registers");
    let spilled = before(&log, " bytes spill stores");
    let shared = before(&log, " bytes smem") + u64::from(module.shared);
    Ok(Figures { kernels: 1, registers, shared, spilled, bytes: module.text.len(), seconds })
}

/// The number before some words in the log of `ptxas`; zero where they are not in it.
fn before(log: &str, words: &str) -> u64 {
    let digits = |text: &str| text.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok());
    log.split_once(words).and_then(|(text, _)| digits(text)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::before;

    #[test]
    fn figures_are_read_from_the_log() {
        let log = "    0 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads\nptxas info    : Used 168 registers, used 1 barriers, 49152 bytes smem\n";
        let found = [" registers", " bytes spill stores", " bytes smem", " bytes gmem"].map(|words| before(log, words));
        assert_eq!(found, [168, 12, 49152, 0]);
    }
}
