//! A device that is none, for the tests of everything around a measurement: a candidate takes its estimate, changed by a hash of its
//! name, and some crash, hang or are wrong. Two processes that measure at once end with an error.

use super::planted::{Fault, number};
use crate::compile::{Compiled, Compiler};
use crate::measure::{Measurer, Outcome};
use std::path::Path;
use wpk_build::hash;
use wpk_build::records::Timed;
use wpk_kernels::arch::Arch;
use wpk_kernels::family::spaces;
use wpk_kernels::library::linear;
use wpk_plan::library::{Call, Library};
use wpk_plan::problem::Problem;
use wpk_plan::{Program, WeightLayout};

/// A problem without a device.
pub struct Simulated {
    problem: Problem,
    layout: WeightLayout,
    arch: &'static Arch,
    /// One candidate in so many fails; none where it is zero.
    faults: u64,
    candidates: Vec<Timed>,
}

impl Simulated {
    pub fn new((problem, layout, arch): (&Problem, WeightLayout, &'static Arch), faults: u64) -> Self {
        Self { problem: problem.clone(), layout, arch, faults, candidates: vec![] }
    }

    fn estimate(&self, timed: &Timed) -> Option<f64> {
        let all = spaces(&self.problem, self.layout, self.arch);
        if timed.library().is_some() {
            let least = |s: &wpk_kernels::family::Space<'_>| s.all().iter().map(|c| c.cost).fold(f64::INFINITY, f64::min);
            return Some(all.iter().map(least).fold(f64::INFINITY, f64::min));
        }
        let space = all.iter().find(|s| s.family == timed.family)?;
        space.estimate(&timed.values(space.params)?)
    }
}

impl Measurer for Simulated {
    fn calls(&mut self) -> (Vec<Timed>, Vec<String>) {
        let Some(linear) = linear(&self.problem, self.layout) else { return (vec![], vec![]) };
        let call =
            |engine| Call { library: Library::CublasLt, version: 1, linear: linear.clone(), engine, knobs: vec![(1, 2)], workspace: 1024 };
        ((0..2).map(|engine| Timed::call(&call(engine), 0.0)).collect(), vec![])
    }

    fn compiler(&self) -> Compiler {
        // An assembler that is none compiles nothing.
        let (problem, layout, arch) = (self.problem.clone(), self.layout, self.arch);
        Compiler { problem, layout, arch, capability: 0, ptxas: None }
    }

    fn load(&mut self, candidates: Vec<Compiled>) {
        self.candidates = candidates.into_iter().map(|c| c.candidate).collect();
    }

    fn time(&mut self, which: usize, _: usize) -> Outcome {
        let lock = std::env::temp_dir().join("wpk-simulated.lock");
        let lock = std::fs::File::options().create(true).append(true).open(lock).map_err(|e| e.to_string())?;
        lock.try_lock().map_err(|_| "another process measures at the same time".to_owned())?;
        let timed = self.candidates.get(which).ok_or("there is no such candidate")?;
        if let Some(fault) = Fault::of(timed, self.faults) {
            return fault.strike(None);
        }
        std::thread::sleep(std::time::Duration::from_micros(200));
        let estimate = self.estimate(timed).ok_or("it is not legal")?;
        Ok(estimate * (0.8 + 0.4 * (number(timed) % 1000) as f64 / 1000.0))
    }

    fn cubin(&mut self, _: &Timed) -> Result<Vec<u8>, String> {
        Ok(vec![])
    }
}

/// As long as the text of a plan says that its steps were tuned or estimated to take, changed by a hash of their schedules: in a plan they are not
/// as fast as by themselves.
pub fn plan(program: &Path) -> Result<f64, String> {
    let bytes = std::fs::read(program).map_err(|e| e.to_string())?;
    let program = Program::from_bytes(&bytes).map_err(|e| e.to_string())?;
    let steps = program.gpus.iter().flat_map(|g| &g.plans).flat_map(|p| p.body.steps());
    let micros = |why: &str| why.split_once(" us").and_then(|(before, _)| before.rsplit([' ', '(']).next()?.parse::<f64>().ok());
    let beside = |why: &str| {
        let schedule = why.split(" (").next().unwrap_or_default();
        let number = u64::from_str_radix(&hash::hex(schedule.as_bytes())[..8], 16).unwrap_or(0);
        0.8 + 0.4 * (number % 1000) as f64 / 1000.0
    };
    Ok(steps.filter_map(|s| Some(1e3 * micros(&s.why)? * beside(&s.why) + 300.0)).sum())
}
