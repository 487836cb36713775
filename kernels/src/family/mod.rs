//! Kernel families: one file each. A family turns a problem and a schedule into a kernel.

mod affine;
mod attention;
mod blocks;
mod bulk;
mod direct;
mod double;
mod engine;
mod exact;
mod factors;
mod fragments;
mod grid;
mod indexed;
mod integer;
mod levels;
mod lines;
mod math;
mod minifloat;
mod mma;
mod online_softmax;
mod output;
mod partial;
mod pipeline;
mod pointwise;
mod products;
mod ranks;
mod reduction;
mod rows;
mod scalar;
mod scatter;
mod simt;
mod space;
mod strict;
mod tile;
mod wgmma;
mod windows;

pub use attention::{Flash, attention};
pub use bulk::{Bulk, bulk};
pub use direct::{Direct, direct};
pub use indexed::{IndexProblem, Indexed, indexed};
pub use levels::{Levels, levels, reads_levels};
pub use lines::{LineProblem, Lines, lines};
pub use mma::{Mma, Product, mma};
pub use pointwise::{Pointwise, pointwise};
pub use ranks::{Ranks, ranks};
pub use reduction::{Folded, Reduction, reduction};
pub use rows::{RowProblem, Rows, rows};
pub use scatter::{Scatter, ScatterProblem, scatter};
pub use simt::{Simt, simt};
pub use space::{Candidate, Space, spaces};
pub use strict::{Strict, strict};
pub use wgmma::{Wgmma, wgmma};
pub use windows::{Windows, windows};

use crate::arch::Arch;
use crate::ptx::Kernel;
use crate::schedule::Schedule;
use wpk_plan::problem::{Contraction, Problem};
use wpk_plan::{DType, WeightLayout};

/// A kernel with the schedule it was made by.
pub struct Generated {
    /// The kernel.
    pub kernel: Kernel,
    /// The family's name in records.
    pub family: &'static str,
    /// The schedule's text.
    pub schedule: String,
    /// Estimated nanoseconds.
    pub cost: f64,
}

impl Generated {
    fn early(self, early: bool) -> Self {
        if early { self } else { Self { kernel: self.kernel.alone(), ..self } }
    }
}

/// Whether a problem's kernels may start before those they depend on have ended. That was measured to help half types and to hurt
/// others (docs/notes/gpu-kernels.md).
fn starts_early(problem: &Problem) -> bool {
    problem.outputs().iter().all(|o| o.dtype.bytes() <= 2)
}

/// The kernel of a problem by the schedule that estimates prefer, among all families that compute it.
///
/// # Errors
/// Where no family computes such a problem yet.
pub fn heuristic(problem: &Problem, layout: WeightLayout, arch: &Arch) -> Result<Generated, Unsupported> {
    if for_cpus(layout) {
        return Err(Unsupported(format!("weights in {layout} are for CPUs")));
    }
    preferred(problem, layout, arch).map(|made| made.early(starts_early(problem)))
}

/// Whether only CPU kernels read weights in a layout.
fn for_cpus(layout: WeightLayout) -> bool {
    matches!(layout, WeightLayout::Pairs16 | WeightLayout::Quads16 | WeightLayout::Halves16)
}

fn preferred(problem: &Problem, layout: WeightLayout, arch: &Arch) -> Result<Generated, Unsupported> {
    match problem {
        Problem::Map(m) => best(m, arch)?.make(|s| pointwise(m, s, arch)),
        Problem::Contraction(c) => contraction(c, layout, arch),
        Problem::Reduce(r) => {
            let folded = Folded::from(r);
            best(&folded, arch)?.make(|s| reduction(&folded, s, arch))
        }
        Problem::Window(w) => {
            let Some(folded) = Folded::window(w) else { return best(w, arch)?.make(|s| windows(w, s, arch)) };
            best(&folded, arch)?.make(|s| reduction(&folded, s, arch))
        }
        Problem::Softmax(p) => by_rows(&RowProblem::Softmax(p.clone()), arch),
        Problem::Normalize(p) => by_rows(&RowProblem::Normalize(Box::new(p.clone())), arch),
        Problem::Attention(p) => best(p, arch)?.make(|s| attention(p, s, arch)),
        Problem::Gather(p) => by_index(&IndexProblem::Gather(p.clone()), arch),
        Problem::Resample(p) => by_index(&IndexProblem::Resample(p.clone()), arch),
        Problem::GatherElements(p) => by_index(&IndexProblem::Elements(p.clone()), arch),
        Problem::GatherNd(p) => by_index(&IndexProblem::Blocks(p.clone()), arch),
        Problem::Scan(p) => by_line(&LineProblem::Scan(p.clone()), arch),
        Problem::ArgReduce(p) => by_line(&LineProblem::ArgReduce(p.clone()), arch),
        Problem::TopK(p) => best(p, arch)?.make(|s| ranks(p, s, arch)),
        Problem::ScatterElements(p) => by_scatter(&ScatterProblem::Elements(p.clone()), arch),
        Problem::ScatterNd(p) => by_scatter(&ScatterProblem::Blocks(p.clone()), arch),
        other => Err(Unsupported(format!("{} has no kernel family yet", other.family()))),
    }
}

/// On tensor cores or without, by estimate; thread by thread where nothing is shared between threads.
fn contraction(c: &Contraction, layout: WeightLayout, arch: &Arch) -> Result<Generated, Unsupported> {
    if layout == WeightLayout::Dense && (c.roles().n.is_empty() || c.dtype == DType::F64) {
        let made = best(c, arch).and_then(|b| b.make(|s| direct(c, s, arch)));
        if made.is_ok() {
            return made;
        }
    }
    let product = Product { contraction: c.clone(), layout };
    if layout.levels().is_some() {
        return best(&product, arch)?.make(|s| levels(&product, s, arch));
    }
    let on_cores = best::<Simt>(c, arch);
    let (single, grouped, large) = (best::<Mma>(&product, arch), best::<Wgmma>(&product, arch), best::<Bulk>(&product, arch));
    let exact = best::<Strict>(&product, arch);
    let others = [single.as_ref().map(|m| m.cost), on_cores.as_ref().map(|s| s.cost)];
    let least = others.into_iter().flatten().fold(f64::INFINITY, f64::min);
    match (grouped, large) {
        (g, Ok(l)) if l.cost < least && g.as_ref().is_ok_and(|g| l.cost < g.cost) => return l.make(|s| bulk(&product, s, arch)),
        (Ok(g), _) if g.cost < least => return g.make(|s| wgmma(&product, s, arch)),
        _ => {}
    }
    if let Ok(e) = exact
        && e.cost < least
    {
        return e.make(|s| strict(&product, s, arch));
    }
    let shared = match (single, on_cores) {
        (Ok(m), Ok(s)) if s.cost < m.cost => s.make(|s| simt(c, layout, s, arch)),
        (Ok(m), _) => m.make(|s| mma(&product, s, arch)),
        (Err(_), s) => s.and_then(|s| s.make(|s| simt(c, layout, s, arch))),
    };
    match shared {
        Err(_) if layout == WeightLayout::Dense => best(c, arch)?.make(|s| direct(c, s, arch)),
        made => made,
    }
}

fn by_rows(p: &RowProblem, arch: &Arch) -> Result<Generated, Unsupported> {
    best(p, arch)?.make(|s| rows(p, s, arch))
}

fn by_index(p: &IndexProblem, arch: &Arch) -> Result<Generated, Unsupported> {
    best(p, arch)?.make(|s| indexed(p, s, arch))
}

fn by_line(p: &LineProblem, arch: &Arch) -> Result<Generated, Unsupported> {
    best(p, arch)?.make(|s| lines(p, s, arch))
}

fn by_scatter(p: &ScatterProblem, arch: &Arch) -> Result<Generated, Unsupported> {
    best(p, arch)?.make(|s| scatter(p, s, arch))
}

/// A schedule with its estimate.
struct Estimated<S> {
    schedule: S,
    cost: f64,
}

fn best<S: Schedule>(problem: &S::Problem, arch: &Arch) -> Result<Estimated<S>, Unsupported> {
    let schedule = S::heuristic(problem, arch).ok_or_else(|| Unsupported(format!("no {} schedule fits", S::FAMILY)))?;
    Ok(Estimated { cost: schedule.cost(&S::facts(problem, arch)), schedule })
}

impl<S: Schedule> Estimated<S> {
    fn make(self, generate: impl FnOnce(&S) -> Result<Kernel, Unsupported>) -> Result<Generated, Unsupported> {
        let kernel = generate(&self.schedule)?;
        Ok(Generated { kernel, family: S::FAMILY, schedule: self.schedule.to_string(), cost: self.cost })
    }
}

/// Why no kernel can be generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported(pub String);

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no kernel: {}", self.0)
    }
}

impl std::error::Error for Unsupported {}
