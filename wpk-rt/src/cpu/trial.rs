//! Running and timing single contractions by schedules, for those that search.

use super::{Bound, Cx, Transformed, bind};
use crate::buffer::Memory;
use crate::pool::{self, Pool};
use std::time::{Duration, Instant};
use wpk_plan::problem::Contraction;
use wpk_plan::{CpuSchedule, DType, Kernel, Problem, WeightLayout};

/// Bytes of copies of weights: beyond the caches of most processors.
const COLD: usize = 96 << 20;
/// Copies of transformed weights at most.
const TRANSFORMED: usize = 16;

/// A contraction with operands of its own.
pub struct Trial {
    kernel: Kernel,
    operands: Vec<Memory>,
    /// Copies of the second factor, which calls take in turn.
    weights: Vec<Memory>,
    pool: &'static Pool,
}

/// A contraction bound by a schedule, several times where it has transformed weights of its own, which calls take in turn too.
pub struct Ready {
    bounds: Vec<Box<dyn Bound>>,
    scratch: Memory,
    shared: usize,
    own: usize,
}

impl Trial {
    /// With random operands; with `cold` ones, calls read weights from memory in turn. Products of `f32` alone can be tried.
    pub fn new(c: &Contraction, layout: WeightLayout, cold: bool) -> Option<Self> {
        let plain = matches!(layout, WeightLayout::Panels16 | WeightLayout::Dense) && c.dtype == DType::F32 && c.sum == DType::F32;
        let problem = Problem::Contraction(c.clone());
        let bytes = |o: &wpk_plan::Operand| o.view.span().map_or(0, |s| s.1 * o.dtype.bytes());
        let mut sizes: Vec<usize> = problem.inputs().iter().chain(&problem.outputs()).map(bytes).collect();
        if layout == WeightLayout::Panels16 {
            sizes[1] = c.roles().packed_len() * 4;
        }
        if !plain || problem.inputs().iter().any(|o| o.dtype != DType::F32) {
            return None;
        }
        let operands: Vec<Memory> = (0..).zip(&sizes).map(|(seed, &n)| random(seed, n)).collect();
        let copies = if cold { (COLD / sizes[1].max(1)).clamp(1, 64) } else { 1 };
        let weights = (0..copies).map(|_| random(1, sizes[1])).collect();
        Some(Self { kernel: Kernel::Cpu(problem, layout), operands, weights, pool: pool::global() })
    }

    /// Whether a schedule is the runtime's for this product, and of those that do the same the first.
    pub fn takes(&self, schedule: &CpuSchedule) -> bool {
        let Kernel::Cpu(Problem::Contraction(c), layout) = &self.kernel else { return false };
        super::contraction::takes(c, *layout, schedule)
    }

    /// The kernel by a schedule, or as the runtime estimates.
    ///
    /// # Errors
    /// Where the runtime has none.
    pub fn bind(&self, schedule: Option<&CpuSchedule>) -> Result<Ready, String> {
        let mut bounds = vec![self.prepared(schedule, 0)?];
        let transformed = bounds[0].1;
        if transformed > 0 && self.weights.len() > 1 {
            for copy in 1..COLD.div_ceil(transformed).min(TRANSFORMED) {
                bounds.push(self.prepared(schedule, copy)?);
            }
        }
        let bounds: Vec<Box<dyn Bound>> = bounds.into_iter().map(|b| b.0).collect();
        let (shared, own) = bounds[0].scratch();
        let (shared, own) = (shared.next_multiple_of(64), own.next_multiple_of(64));
        let scratch = Memory::new(shared + self.pool.threads() * own);
        Ok(Ready { bounds, scratch, shared, own })
    }

    /// The kernel with one of the copies of weights transformed, and bytes of what that made.
    fn prepared(&self, schedule: Option<&CpuSchedule>, copy: usize) -> Result<(Box<dyn Bound>, usize), String> {
        let bound = bind(&self.kernel, false, &[], schedule)?;
        let mut args = vec![std::ptr::null_mut(); self.operands.len()];
        args[1] = self.weights[copy % self.weights.len()].ptr();
        let mut known = Transformed::default();
        // SAFETY: weights are as long as the layout wants.
        unsafe { bound.prepare(&args, &mut known) };
        Ok((bound, known.values().map(|m| m.len()).sum()))
    }

    /// Runs once, with one of the copies of weights.
    pub fn run(&self, kernel: &Ready, copy: usize) {
        let mut args: Vec<*mut u8> = self.operands.iter().map(Memory::ptr).collect();
        args[1] = self.weights[copy % self.weights.len()].ptr();
        let scratch = kernel.scratch.ptr();
        let cx = Cx { pool: self.pool, shared: scratch, own: (scratch.wrapping_add(kernel.shared), kernel.own) };
        // SAFETY: operands are as long as their views reach, scratch as the kernel asked; nobody else runs on them.
        unsafe { kernel.bounds[copy % kernel.bounds.len()].run(&args, &cx) }
    }

    /// The result of the last run.
    pub fn result(&self) -> Vec<f32> {
        // SAFETY: nobody runs on the operands now.
        self.operands.last().map_or(vec![], |m| unsafe { std::slice::from_raw_parts(m.ptr().cast::<f32>(), m.len() / 4) }.to_vec())
    }

    /// Median nanoseconds of a run, of as many as fit into some time and at least seven.
    pub fn time(&self, kernel: &Ready, least: Duration) -> f64 {
        self.run(kernel, 0);
        let (begin, mut times) = (Instant::now(), vec![]);
        while times.len() < 7 || begin.elapsed() < least {
            let start = Instant::now();
            self.run(kernel, times.len());
            times.push(start.elapsed().as_nanos() as f64);
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }
}

/// Numbers between -1 and 1.
fn random(seed: u64, bytes: usize) -> Memory {
    let memory = Memory::new(bytes);
    // SAFETY: the memory is new, aligned and as long.
    let elements = unsafe { std::slice::from_raw_parts_mut(memory.ptr().cast::<f32>(), bytes / 4) };
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for to in elements {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *to = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
    }
    memory
}
