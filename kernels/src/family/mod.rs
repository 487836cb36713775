//! Kernel families: one file each. A family turns a problem and a schedule into a kernel.

mod affine;
mod attention;
mod bf16x3;
mod blocks;
mod bulk;
mod columns;
mod direct;
mod double;
mod engine;
mod exact;
mod exponents;
mod factors;
mod fragments;
mod grid;
mod halo;
mod images;
mod indexed;
mod integer;
mod levels;
mod lines;
mod long_rows;
mod math;
mod minifloat;
mod mma;
mod online_softmax;
mod output;
mod overlap;
mod packed;
mod pairs;
mod partial;
mod patches;
mod pingpong;
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
mod spot;
mod strict;
mod sums;
mod tile;
mod wgflash;
mod wgmma;
mod windows;

pub use attention::{Flash, attention};
pub use bf16x3::{Bf16x3, bf16x3};
pub use bulk::{Bulk, bulk};
pub use direct::{Direct, direct};
pub use halo::{Halo, halo};
pub use indexed::{IndexProblem, Indexed, indexed};
pub use levels::{Levels, levels, reads_levels};
pub use lines::{LineProblem, Lines, lines};
pub use long_rows::{LongRows, long_rows};
pub use mma::{Mma, Product, mma};
pub use packed::{Packed, packed};
pub use pairs::{Pairs, pairs};
pub use pingpong::{PingPong, pingpong};
pub use pointwise::{Pointwise, pointwise};
pub use ranks::{Ranks, ranks};
pub use reduction::{Folded, Reduction, reduction};
pub use rows::{RowProblem, Rows, rows};
pub use scatter::{Scatter, ScatterProblem, scatter};
pub use simt::{Simt, simt};
pub use space::{Candidate, Space, spaces};
pub use strict::{Strict, strict};
pub use wgflash::{WgFlash, wgflash};
pub use wgmma::{Wgmma, wgmma};
pub use windows::{Windows, windows};

use crate::arch::Arch;
use crate::ptx::Kernel;
use wpk_plan::WeightLayout;
use wpk_plan::problem::Problem;

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

/// The kernel of a problem by the schedule that estimates prefer, among all families that compute it; where one cannot generate what it
/// estimated, the next does.
///
/// # Errors
/// Where no family computes such a problem yet.
pub fn heuristic(problem: &Problem, layout: WeightLayout, arch: &Arch) -> Result<Generated, Unsupported> {
    if for_cpus(layout) {
        return Err(Unsupported(format!("weights in {layout} are for CPUs")));
    }
    let families = spaces(problem, layout, arch);
    if families.is_empty() {
        return Err(Unsupported(format!("{} has no kernel family yet", problem.family())));
    }
    let mut found: Vec<(u32, Candidate, &Space<'_>)> =
        families.iter().filter_map(|space| Some((space.turn, space.cheapest()?, space))).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.cost.total_cmp(&b.1.cost)));
    let mut result = Err(Unsupported(format!("no {} schedule fits", families[0].family)));
    for (_, candidate, space) in found {
        result = space.generate(&candidate.values);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Whether only CPU kernels read weights in a layout.
fn for_cpus(layout: WeightLayout) -> bool {
    matches!(layout, WeightLayout::Pairs16 | WeightLayout::Quads16 | WeightLayout::Halves16)
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
