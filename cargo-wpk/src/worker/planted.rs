//! Faults planted among candidates, for the tests of what keeps them from doing harm: one candidate in so many, by a hash of its name.

use wpk_build::hash;
use wpk_build::records::Timed;
use wpk_kernels::arch::Arch;
use wpk_kernels::dsl::Writer;
use wpk_kernels::ptx::{MemTy, Ty};
use wpk_rt::measure::{Bench, Memory};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process ends.
    Crash,
    /// Nothing comes any more.
    Hang,
    /// Results are wrong; on a device, a kernel writes where it must not, and poisons the process's context.
    Wrong,
}

/// A number from a candidate's name.
pub fn number(timed: &Timed) -> u64 {
    let name = format!("{} {:?}", timed.family, timed.schedule);
    hash::hex(name.as_bytes()).get(..8).and_then(|h| u64::from_str_radix(h, 16).ok()).unwrap_or(0)
}

impl Fault {
    /// The fault of a candidate, where one in `faults` has one; none where that is zero.
    pub fn of(timed: &Timed, faults: u64) -> Option<Self> {
        let number = number(timed);
        let hit = faults > 0 && number.is_multiple_of(faults);
        hit.then(|| [Self::Crash, Self::Hang, Self::Wrong][(number / faults % 3) as usize])
    }

    /// Does what ends or stops the process; a wrong candidate is told as an error.
    pub fn strike(self, device: Option<(&Bench, &'static Arch)>) -> Result<f64, String> {
        match (self, device) {
            (Self::Crash, _) => std::process::abort(),
            (Self::Hang, _) => loop {
                std::thread::sleep(std::time::Duration::from_secs(60));
            },
            (Self::Wrong, None) => Err("wrong: relative error 1.0e0".to_owned()),
            (Self::Wrong, Some((bench, arch))) => stray(bench, arch),
        }
    }
}

/// Runs a kernel that writes far behind its only buffer.
fn stray(bench: &Bench, arch: &'static Arch) -> Result<f64, String> {
    let mut k = Writer::for_arch(arch);
    let far = k.int(i64::from(i32::MAX), Ty::S32);
    let to = k.element(0, far, 1 << 14);
    let value = k.float(1.0, Ty::F32);
    k.store(MemTy::F32, to, &[value]);
    let module = k.finish("stray", 1, 32, 1).module(arch);
    let loaded = bench.load(&[module]).pop().ok_or("nothing was loaded")?.map_err(|e| e.to_string())?;
    let memory: Memory = bench.room(16).map_err(|e| e.to_string())?;
    bench.run(&loaded, &[&memory]).map_err(|e| e.to_string())?;
    Err("it wrote where it must not, and nobody saw".to_owned())
}
