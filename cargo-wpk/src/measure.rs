//! Schedules and calls for one problem on a device: compiled, checked against a reference, timed beside an anchor.

use crate::compile::{Compiled, Compiler, ptxas};
use crate::run::relative_error;
use std::rc::Rc;
use wpk_build::records::Timed;
use wpk_kernels::Tensor;
use wpk_kernels::arch::Arch;
use wpk_kernels::family::{Generated, heuristic};
use wpk_kernels::library::linear;
use wpk_plan::problem::Problem;
use wpk_plan::{DType, Module, Parts, WeightLayout};
use wpk_rt::measure::{Bench, EdgeKind, Loaded, Memory};

/// Nanoseconds that the launches of one timing take together, at least.
const LONG: f64 = 300_000.0;
/// How many times as slow as the best so far what is not timed well may be.
const HOPELESS: f64 = 3.0;
/// How often an anchor is timed until it is steady.
const STEADY: usize = 20;
/// Calls that are asked of each library.
const CALLS: usize = 8;
/// Copies of weights, together twice the second cache or more, take turns where weights come from memory; at most so many.
const COPIES: usize = 64;

/// How a candidate ended: nanoseconds, or why it has none.
pub type Outcome = Result<f64, String>;

/// What surrounds a kernel while it is timed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings {
    /// Weights come from memory: they are not in the second cache when they are read.
    pub cold: bool,
    /// Kernels that may start before the one before has ended do so, as in a plan.
    pub early: bool,
}

/// A problem that candidates are measured for.
pub trait Measurer {
    /// The calls that libraries propose, and what they say where they propose none.
    fn calls(&mut self) -> (Vec<Timed>, Vec<String>);
    /// What compiles candidates ahead.
    fn compiler(&self) -> Compiler;
    /// Takes compiled candidates to the device.
    fn load(&mut self, candidates: Vec<Compiled>);
    /// Checks and times the candidate of a number, in so many rounds.
    fn time(&mut self, number: usize, rounds: usize) -> Outcome;
    /// What a schedule was compiled to.
    fn cubin(&mut self, schedule: &Timed) -> Result<Vec<u8>, String>;
}

/// A problem's operands on a device, with what its results should be.
pub struct Gpu<'a> {
    bench: &'a Bench,
    compiler: Compiler,
    operands: Vec<Memory>,
    /// Further copies of the second operand.
    copies: Vec<Memory>,
    /// The second operand and its copies in parts, as kernels take those.
    parts: Vec<(Parts, Vec<Memory>)>,
    reference: Vec<Tensor>,
    early: bool,
    best: f64,
    prepared: Vec<Result<Rc<Ready>, String>>,
    /// Calls made ready when they were proposed: for some that takes a second.
    calls: Vec<(Timed, Rc<Ready>)>,
    /// The estimate's choice, with what it took when the problem was begun.
    anchor: Option<(Ready, f64)>,
    /// What the anchor takes now, over what it took then.
    drift: f64,
}

/// Something that runs, with memory of its own.
struct Ready {
    loaded: Loaded,
    own: Vec<Memory>,
    /// The parts in which it takes the second operand.
    parts: Option<Parts>,
    edges: EdgeKind,
}

/// Different random elements of an operand at most, a prime number: large ones repeat them.
const PERIOD: usize = 1_048_573;

/// Random elements of about one, the sum of two uniform ones, in the type of an operand.
pub fn random(dtype: DType, len: usize, seed: u64) -> Vec<u8> {
    let bytes = distinct(dtype, len.min(PERIOD), seed);
    let mut all = Vec::with_capacity(len * dtype.bytes());
    while all.len() < len * dtype.bytes() {
        all.extend_from_slice(&bytes[..bytes.len().min(len * dtype.bytes() - all.len())]);
    }
    all
}

fn distinct(dtype: DType, len: usize, seed: u64) -> Vec<u8> {
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
    wpk_build::Literal::dense(DType::F32, &[len], values).narrowed(dtype).bytes.to_vec()
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

impl<'a> Gpu<'a> {
    /// Operands of random numbers; the reference is what the estimate's schedule gives.
    ///
    /// # Errors
    /// Where the device fails or the problem has no kernel.
    pub fn new(
        bench: &'a Bench,
        (problem, layout, arch): (&Problem, WeightLayout, &'static Arch),
        around: Surroundings,
    ) -> Result<Self, String> {
        let (mut operands, mut copies) = (vec![], vec![]);
        for (i, o) in problem.inputs().iter().chain(&problem.outputs()).enumerate() {
            let mut len = o.view.span().map_or(0, |s| s.1);
            if let (Problem::Contraction(c), 1) = (problem, i) {
                let roles = c.roles();
                let columns = roles.count(&roles.batch) * roles.count(&roles.n) * roles.column_len(o.dtype.bytes().clamp(2, 4));
                len = len.max(roles.packed_len()).max(columns);
            }
            let bytes = random(o.dtype, len, i as u64 + 1);
            if i == 1 && around.cold && layout != WeightLayout::Dense {
                let count = (2 * bench.cache().map_err(text)?).div_ceil(bytes.len().max(1)).clamp(1, COPIES);
                copies = (1..count).map(|_| bench.memory(&bytes)).collect::<Result<_, _>>().map_err(text)?;
            }
            operands.push(bench.memory(&bytes).map_err(text)?);
        }
        let mut gpu = Self {
            bench,
            compiler: Compiler { problem: problem.clone(), layout, arch, capability: bench.capability().map_err(text)?, ptxas: ptxas() },
            operands,
            copies,
            parts: vec![],
            reference: vec![],
            early: around.early,
            best: f64::INFINITY,
            prepared: vec![],
            calls: vec![],
            anchor: None,
            drift: 1.0,
        };
        let made = heuristic(problem, layout, arch).map_err(text)?;
        let loaded = bench.load(&[made.kernel.module(arch)]).pop().ok_or("nothing was loaded")?.map_err(text)?;
        let anchor = gpu.ready(loaded, &made)?;
        gpu.bench.run(&anchor.loaded, &gpu.arguments(&anchor)[0]).map_err(text)?;
        gpu.reference = gpu.results()?;
        let ns = gpu.steady(&anchor)?;
        gpu.anchor = Some((anchor, ns));
        Ok(gpu)
    }

    fn ready(&mut self, loaded: Loaded, made: &Generated) -> Result<Ready, String> {
        let sizes = [made.kernel.workspace, made.kernel.zeroed];
        let own = sizes.into_iter().filter(|&n| n > 0).map(|n| self.bench.memory(&vec![0; n]).map_err(text)).collect::<Result<_, _>>()?;
        let edges = if self.early && made.kernel.overlaps() { EdgeKind::Programmatic } else { EdgeKind::Full };
        if let Some(parts) = &made.kernel.parts
            && self.parts.iter().all(|made| made.0 != *parts)
        {
            let made = parts.of(&self.bench.read(&self.operands[1]).map_err(text)?).ok_or("parts are made of whole panels")?;
            let all = (0..=self.copies.len()).map(|_| self.bench.memory(&made)).collect::<Result<_, _>>().map_err(text)?;
            self.parts.push((parts.clone(), all));
        }
        Ok(Ready { loaded, own, parts: made.kernel.parts.clone(), edges })
    }

    /// The arguments, once for every copy of the weights.
    fn arguments<'b>(&'b self, ready: &'b Ready) -> Vec<Vec<&'b Memory>> {
        let list = |second: Option<&'b Memory>| {
            let mut all: Vec<&Memory> = self.operands.iter().chain(&ready.own).collect();
            second.into_iter().for_each(|m| all[1] = m);
            all
        };
        match self.parts.iter().find(|made| Some(&made.0) == ready.parts.as_ref()) {
            Some((_, parts)) => parts.iter().map(|m| list(Some(m))).collect(),
            None => std::iter::once(list(None)).chain(self.copies.iter().map(|m| list(Some(m)))).collect(),
        }
    }

    fn results(&self) -> Result<Vec<Tensor>, String> {
        let first = self.compiler.problem.inputs().len();
        let outputs = self.compiler.problem.outputs();
        let read = |(o, m): (&wpk_plan::problem::Operand, &Memory)| {
            let bytes = self.bench.read(m).map_err(text)?;
            let all = Tensor::from_bytes(o.dtype, &bytes);
            Ok(if o.view.is_dense() { all } else { all.select(o.view.offsets()) })
        };
        outputs.iter().zip(&self.operands[first..]).map(read).collect()
    }

    /// How far results may be from the reference, in the 2-norm: two schedules differ by roundings.
    fn tolerance(&self) -> f64 {
        let tf32 = matches!(&self.compiler.problem, Problem::Contraction(c) if c.tf32)
            || matches!(&self.compiler.problem, Problem::Attention(a) if a.tf32);
        match self.compiler.problem.outputs().first().map_or(4, |o| o.dtype.bytes()) {
            2 => 1e-2,
            _ if tf32 => 3e-3,
            _ => 1e-4,
        }
    }

    fn median(&self, ready: &Ready, rounds: usize) -> Result<f64, String> {
        let arguments = self.arguments(ready);
        let time = |repeats, rounds| self.bench.time((&ready.loaded, ready.edges), &arguments, repeats, rounds).map_err(text);
        // Few launches would tell what a graph takes to start.
        let once = time(10, 3)?[1];
        if once > HOPELESS * self.best {
            return Ok(once);
        }
        let times = time((LONG / once).clamp(4.0, 60.0) as usize, rounds)?;
        Ok(times[times.len() / 2])
    }

    /// The median of the anchor once it takes as long as just before: a device that was idle is slow at first.
    fn steady(&self, anchor: &Ready) -> Result<f64, String> {
        let arguments = self.arguments(anchor);
        let median = || self.bench.time((&anchor.loaded, anchor.edges), &arguments, 40, 9).map(|t| t[t.len() / 2]).map_err(text);
        let mut last = median()?;
        for _ in 0..STEADY {
            let now = median()?;
            if (now / last - 1.0).abs() < 0.02 {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }

    fn call(&self, timed: &Timed) -> Result<Rc<Ready>, String> {
        let same = |c: &&(Timed, Rc<Ready>)| c.0.family == timed.family && c.0.schedule == timed.schedule;
        if let Some((_, ready)) = self.calls.iter().find(same) {
            return Ok(Rc::clone(ready));
        }
        let call =
            linear(&self.compiler.problem, self.compiler.layout).and_then(|l| timed.as_call(l)).ok_or("no call computes the problem")?;
        let operands: Vec<&Memory> = self.operands.iter().collect();
        let (loaded, _) = self.bench.prepare(&call, &operands).map_err(text)?;
        Ok(Rc::new(Ready { loaded, own: vec![], parts: None, edges: EdgeKind::Full }))
    }
}

impl Measurer for Gpu<'_> {
    fn calls(&mut self) -> (Vec<Timed>, Vec<String>) {
        let Some(linear) = linear(&self.compiler.problem, self.compiler.layout) else { return (vec![], vec![]) };
        let operands: Vec<&Memory> = self.operands.iter().collect();
        let (proposed, mut notes) = self.bench.calls(&linear, CALLS);
        let mut calls = vec![];
        for call in proposed {
            // What a call needs is known once it is ready.
            match self.bench.prepare(&call, &operands) {
                Ok((loaded, call)) => {
                    let timed = Timed::call(&call, 0.0);
                    self.calls.push((timed.clone(), Rc::new(Ready { loaded, own: vec![], parts: None, edges: EdgeKind::Full })));
                    calls.push(timed);
                }
                Err(reason) => notes.push(format!("{} engine {}: {reason}", call.library, call.engine)),
            }
        }
        (calls, notes)
    }

    fn compiler(&self) -> Compiler {
        self.compiler.clone()
    }

    fn load(&mut self, candidates: Vec<Compiled>) {
        self.prepared.clear();
        let modules: Vec<Module> = candidates.iter().filter_map(|c| c.kernel.as_ref()?.as_ref().ok()).map(|k| k.1.clone()).collect();
        let mut loaded = self.bench.load(&modules).into_iter();
        for Compiled { candidate, kernel } in candidates {
            let ready = match kernel {
                None => self.call(&candidate),
                Some(kernel) => kernel.and_then(|(made, _)| {
                    let loaded = loaded.next().ok_or("nothing was loaded")?.map_err(text)?;
                    self.ready(loaded, &made).map(Rc::new)
                }),
            };
            self.prepared.push(ready);
        }
        // Clocks drift: times are kept as ratios to the anchor's.
        let now = self.anchor.as_ref().and_then(|(anchor, then)| Some(self.steady(anchor).ok()? / then));
        self.drift = now.unwrap_or(1.0);
    }

    fn time(&mut self, number: usize, rounds: usize) -> Outcome {
        let ready = self.prepared.get(number).ok_or("there is no such candidate")?.as_ref().map_err(Clone::clone)?;
        self.bench.run(&ready.loaded, &self.arguments(ready)[0]).map_err(text)?;
        for (found, expected) in self.results()?.iter().zip(&self.reference) {
            let error = relative_error(found, expected);
            if error > self.tolerance() {
                return Err(format!("wrong: relative error {error:.1e}"));
            }
        }
        let ns = self.median(ready, rounds)? / self.drift;
        self.best = self.best.min(ns);
        Ok(ns)
    }

    fn cubin(&mut self, schedule: &Timed) -> Result<Vec<u8>, String> {
        let compiled = self.compiler.compile(std::slice::from_ref(schedule)).pop().and_then(|c| c.kernel);
        let (_, mut module) = compiled.ok_or("a call is not compiled")??;
        match module.cubins.pop() {
            Some(cubin) => Ok(cubin.image.0),
            None => self.bench.cubin(&module).map(|c| c.image.0).map_err(text),
        }
    }
}
