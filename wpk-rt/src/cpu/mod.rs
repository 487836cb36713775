//! CPU kernels: one family of problems a file.
//!
//! [`bind`] prepares a step once, at load; [`Bound::run`] executes it without allocating. Kernels work on raw pointers:
//! `Program::verify` has proven beforehand that every view stays inside its argument.
#![allow(clippy::undocumented_unsafe_blocks, reason = "one invariant covers them all: the plan is verified before it is bound")]
#![allow(clippy::too_many_arguments, reason = "kernels take what registers hold")]

mod activation;
mod ahead;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod attention;
mod chain;
mod channelwise;
mod code;
mod contraction;
mod copied;
mod custom;
mod epilogue;
mod floats;
mod functions;
mod generic;
mod identity;
mod in_place;
mod index;
mod isa;
mod levels;
mod map;
mod math;
mod microkernel;
mod movement;
mod pairs;
#[cfg(target_arch = "aarch64")]
mod pairs_neon;
mod places;
mod quads;
mod reduce;
mod requantize;
mod rows;
mod simd;
mod sliding;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod split;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tall;
mod task;
mod transforms;
pub mod trial;
mod window;
mod winograd;

#[cfg(feature = "cuda")]
pub use map::f32_to_f16;

pub use custom::CustomFunction;
pub use identity::identity;

use crate::buffer::Memory;
use crate::pool::Pool;
use wpk_plan::{CpuSchedule, Kernel, Problem};

/// The instruction set that kernels are chosen for on this machine.
pub fn instruction_set() -> String {
    format!("{:?}", isa::isa()).to_lowercase()
}

/// What a kernel may use while it runs.
pub(crate) struct Cx<'a> {
    /// The threads.
    pub(crate) pool: &'a Pool,
    /// Memory that all threads share.
    pub(crate) shared: *mut u8,
    /// Memory per thread: the first one's, and bytes from one to the next.
    pub(crate) own: (*mut u8, usize),
}

// SAFETY: threads use disjoint parts.
unsafe impl Sync for Cx<'_> {}

impl Cx<'_> {
    /// The scratch memory of one thread.
    pub(crate) fn own(&self, thread: usize) -> *mut u8 {
        self.own.0.wrapping_add(thread * self.own.1)
    }
}

/// Transformed weights that plans share, by the address of what they were made of.
pub(crate) type Transformed = std::collections::BTreeMap<usize, std::sync::Arc<Memory>>;

/// A step ready to run.
pub(crate) trait Bound: Send + Sync {
    /// Bytes of scratch memory: shared by all threads, and per thread.
    fn scratch(&self) -> (usize, usize) {
        (0, 0)
    }
    /// Makes what weights are read as, once: arguments are pointers to weights, null for everything else.
    ///
    /// # Safety
    /// As for [`Bound::run`].
    unsafe fn prepare(&self, _args: &[*mut u8], _known: &mut Transformed) {}
    /// Runs on one pointer per argument.
    ///
    /// # Safety
    /// Every pointer must be valid for what the problem's view of it reaches; outputs must not alias what other steps
    /// running now touch.
    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>);
}

/// A pointer that threads may share; they touch disjoint elements through it.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub(crate) *mut T);
unsafe impl<T> Send for Shared<T> {}
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

/// Argument pointers that threads may share.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a>(pub(crate) &'a [*mut u8]);
unsafe impl Sync for Args<'_> {}

impl<'a> Args<'a> {
    pub(crate) fn get(self) -> &'a [*mut u8] {
        self.0
    }
}

/// Prepares a kernel, or says what it does not take; `small` is for no memory beside the plan's. A schedule that is none of the kernel's is
/// passed over.
pub(crate) fn bind(
    kernel: &Kernel,
    small: bool,
    functions: &[CustomFunction],
    schedule: Option<&CpuSchedule>,
) -> Result<Box<dyn Bound>, String> {
    let Kernel::Cpu(problem, layout) = kernel else { return Err("a GPU kernel in a CPU plan".to_owned()) };
    match problem {
        Problem::Contraction(p) => contraction::bind(p, *layout, small, schedule),
        Problem::Map(p) => map::bind(p),
        Problem::Move(p) => movement::bind(p),
        Problem::Reduce(p) => reduce::bind(p),
        Problem::Window(p) => window::bind(p),
        Problem::Softmax(p) => rows::bind_softmax(p),
        Problem::Normalize(p) => rows::bind_normalize(p),
        Problem::Attention(p) => attention::bind(p),
        Problem::Gather(p) => index::gather(p),
        Problem::GatherElements(p) => index::gather_elements(p),
        Problem::GatherNd(p) => index::gather_nd(p),
        Problem::ScatterElements(p) => index::scatter_elements(p),
        Problem::ScatterNd(p) => index::scatter_nd(p),
        Problem::Resample(p) => index::resample(p),
        Problem::Scan(p) => index::scan(p),
        Problem::TopK(p) => index::top_k(p),
        Problem::ArgReduce(p) => index::arg_reduce(p),
        Problem::Custom(p) => custom::bind(p, functions),
        Problem::Chain(p) => chain::bind(p, *layout),
    }
}

/// Splits `n` items into at most `parts` ranges of nearly equal length.
pub(crate) fn part(n: usize, parts: usize, i: usize) -> std::ops::Range<usize> {
    i * n / parts..(i + 1) * n / parts
}
