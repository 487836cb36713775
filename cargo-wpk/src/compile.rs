//! Kernels compiled ahead of their measurement: by `ptxas` where there is one, several at a time, since the driver compiles one after
//! the other whatever the number of threads.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use wpk_build::records::Timed;
use wpk_kernels::arch::Arch;
use wpk_kernels::family::Generated;
use wpk_plan::problem::Problem;
use wpk_plan::{Bytes, Cubin, Module, WeightLayout};

/// What candidates of a problem are compiled with; it needs no device.
#[derive(Clone)]
pub struct Compiler {
    pub problem: Problem,
    pub layout: WeightLayout,
    pub arch: &'static Arch,
    /// The device's compute capability.
    pub capability: u32,
    /// The assembler; without one the driver compiles.
    pub ptxas: Option<PathBuf>,
}

/// A candidate; of a schedule, its kernel with what it was compiled to, or why there is none.
pub struct Compiled {
    pub candidate: Timed,
    pub kernel: Option<Result<(Generated, Module), String>>,
}

impl Compiler {
    /// Generates and compiles the schedules among some candidates.
    pub fn compile(&self, candidates: &[Timed]) -> Vec<Compiled> {
        let make = |candidate: &Timed| -> Result<(Generated, Module), String> {
            let made = candidate.generate(&self.problem, self.layout, self.arch)?;
            let module = made.kernel.module(self.arch);
            Ok((made, module))
        };
        let one = |c: &Timed| Compiled { candidate: c.clone(), kernel: c.library().is_none().then(|| make(c)) };
        let mut compiled: Vec<Compiled> = candidates.iter().map(one).collect();
        let mut modules: Vec<&mut Module> =
            compiled.iter_mut().filter_map(|c| c.kernel.as_mut()?.as_mut().ok()).map(|k| &mut k.1).collect();
        ahead(self.ptxas.as_deref(), self.arch.target, self.capability, &mut modules);
        compiled
    }
}

/// The `ptxas` that is used: `WPK_PTXAS`, else where CUDA is, else the path's.
pub fn ptxas() -> Option<PathBuf> {
    let named = std::env::var_os("WPK_PTXAS").map(PathBuf::from);
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let folders = homes.chain([PathBuf::from("/usr/local/cuda")]).map(|h| h.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = folders.chain(std::env::split_paths(&path).collect::<Vec<_>>());
    named.or_else(|| all.map(|f| f.join("ptxas")).find(|p| p.is_file()))
}

/// Compiles modules for a capability; what `ptxas` does not take keeps its text, which the driver then compiles.
fn ahead(ptxas: Option<&Path>, target: &str, capability: u32, modules: &mut [&mut Module]) {
    let Some(ptxas) = ptxas else { return };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(modules.len());
    let next = AtomicUsize::new(0);
    let texts: Vec<&str> = modules.iter().map(|m| m.text.as_str()).collect();
    let work = || {
        let turn = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < texts.len());
        std::iter::from_fn(turn).map(|i| (i, one(ptxas, target, texts[i]))).collect::<Vec<_>>()
    };
    let made: Vec<(usize, Option<Vec<u8>>)> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().flat_map(|t| t.join().unwrap_or_default()).collect()
    });
    for (i, image) in made {
        modules[i].cubins.extend(image.map(|image| Cubin { capability, image: Bytes(image) }));
    }
}

fn one(ptxas: &Path, target: &str, text: &str) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().ok()?;
    let (from, to) = (folder.path().join("kernel.ptx"), folder.path().join("kernel.cubin"));
    std::fs::write(&from, text).ok()?;
    let done = Command::new(ptxas).arg(format!("-arch={target}")).arg("-o").arg(&to).arg(&from).output().ok()?;
    done.status.success().then(|| std::fs::read(&to).ok()).flatten()
}
