//! Schedules of one problem on a device: compiled, checked against a reference, timed.

use crate::run::relative_error;
use wpk_kernels::Tensor;
use wpk_kernels::arch::Arch;
use wpk_kernels::family::{Generated, heuristic};
use wpk_plan::problem::Problem;
use wpk_plan::{DType, Module, WeightLayout};
use wpk_rt::measure::{Bench, Loaded, Memory};

/// Nanoseconds that the launches of one timing take together, at least.
const LONG: f64 = 300_000.0;

/// A problem's operands on a device, with what its results should be.
pub struct Measurer<'a> {
    bench: &'a Bench,
    arch: &'a Arch,
    problem: &'a Problem,
    operands: Vec<Memory>,
    reference: Vec<Tensor>,
    best: f64,
}

/// Random elements of about one, the sum of two uniform ones, in the type of an operand.
pub fn random(dtype: DType, len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    if !dtype.is_float() {
        // Positions and flags: small numbers that every table has.
        return Tensor::ints(dtype, (0..len).map(|_| i64::from(next() > 0.0)).collect()).to_bytes();
    }
    let values: Vec<u8> = (0..len).flat_map(|_| (next() + next()).to_le_bytes()).collect();
    wpk_build::Literal { dtype: DType::F32, shape: vec![len], bytes: values.into() }.narrowed(dtype).bytes.to_vec()
}

impl<'a> Measurer<'a> {
    /// Operands of random numbers; the reference is what the estimate's schedule gives.
    pub fn new(bench: &'a Bench, problem: &'a Problem, layout: WeightLayout, arch: &'a Arch) -> Result<Self, String> {
        let mut operands = vec![];
        for (i, o) in problem.inputs().iter().chain(&problem.outputs()).enumerate() {
            let mut len = o.view.span().map_or(0, |s| s.1);
            if let (Problem::Contraction(c), 1) = (problem, i) {
                let roles = c.roles();
                let columns = roles.count(&roles.batch) * roles.count(&roles.n) * roles.column_len(o.dtype.bytes().clamp(2, 4));
                len = len.max(roles.packed_len()).max(columns);
            }
            operands.push(bench.memory(&random(o.dtype, len, i as u64 + 1)).map_err(|e| e.to_string())?);
        }
        let mut measurer = Self { bench, arch, problem, operands, reference: vec![], best: f64::INFINITY };
        let made = heuristic(problem, layout, arch).map_err(|e| e.to_string())?;
        let loaded = bench.load(&[made.kernel.module(arch)]).pop().ok_or("nothing was loaded")?.map_err(|e| e.to_string())?;
        measurer.run(&made, &loaded)?;
        measurer.reference = measurer.results()?;
        Ok(measurer)
    }

    fn own(&self, made: &Generated) -> Result<Vec<Memory>, String> {
        let sizes = [made.kernel.workspace, made.kernel.zeroed];
        sizes.into_iter().filter(|&n| n > 0).map(|n| self.bench.memory(&vec![0; n]).map_err(|e| e.to_string())).collect()
    }

    fn run(&self, made: &Generated, kernel: &Loaded) -> Result<(), String> {
        let own = self.own(made)?;
        let arguments: Vec<&Memory> = self.operands.iter().chain(&own).collect();
        self.bench.run(kernel, &arguments).map_err(|e| e.to_string())
    }

    fn results(&self) -> Result<Vec<Tensor>, String> {
        let first = self.problem.inputs().len();
        let outputs = self.problem.outputs();
        let read = |(o, m): (&wpk_plan::problem::Operand, &Memory)| {
            let bytes = self.bench.read(m).map_err(|e| e.to_string())?;
            Ok(Tensor::from_bytes(o.dtype, &bytes).select(o.view.offsets()))
        };
        outputs.iter().zip(&self.operands[first..]).map(read).collect()
    }

    /// How far results may be from the reference, in the 2-norm: two schedules differ by roundings.
    fn tolerance(&self) -> f64 {
        let tf32 = matches!(self.problem, Problem::Contraction(c) if c.tf32) || matches!(self.problem, Problem::Attention(a) if a.tf32);
        match self.problem.outputs().first().map_or(4, |o| o.dtype.bytes()) {
            2 => 1e-2,
            _ if tf32 => 3e-3,
            _ => 1e-4,
        }
    }

    /// Nanoseconds of each kernel; none where it does not load, gives wrong results, or fails.
    ///
    /// # Errors
    /// Where the device fails for good.
    pub fn times(&mut self, made: &[Generated]) -> Result<Vec<Option<f64>>, String> {
        let modules: Vec<Module> = made.iter().map(|m| m.kernel.module(self.arch)).collect();
        let mut times = vec![];
        for (made, loaded) in made.iter().zip(self.bench.load(&modules)) {
            let Ok(kernel) = loaded else {
                times.push(None);
                continue;
            };
            self.run(made, &kernel)?;
            let found = self.results()?;
            let wrong = |(x, y): (&Tensor, &Tensor)| {
                let error = relative_error(x, y);
                error.is_nan() || error > self.tolerance()
            };
            if found.iter().zip(&self.reference).any(wrong) {
                times.push(None);
                continue;
            }
            let time = self.time(made, &kernel)?;
            self.best = self.best.min(time);
            times.push(Some(time));
        }
        Ok(times)
    }

    fn time(&self, made: &Generated, kernel: &Loaded) -> Result<f64, String> {
        let own = self.own(made)?;
        let arguments: Vec<&Memory> = self.operands.iter().chain(&own).collect();
        let time = |repeats, rounds| self.bench.time(kernel, &arguments, repeats, rounds).map_err(|e| e.to_string());
        let once = time(2, 1)?;
        // What is far behind is not timed well.
        if once > 4.0 * self.best {
            return Ok(once);
        }
        time((LONG / once).clamp(4.0, 60.0) as usize, 5)
    }
}
