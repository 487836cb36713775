//! Kernel families: one file each. A family turns a problem and a schedule into a kernel.

mod affine;
mod direct;
mod factors;
mod fragments;
mod math;
mod mma;
mod output;
mod partial;
mod pointwise;
mod reduction;
mod rows;
mod scalar;
mod simt;
mod tile;

pub use direct::{Direct, direct};
pub use mma::{Mma, Product, mma};
pub use pointwise::{Pointwise, pointwise};
pub use reduction::{Folded, Reduction, reduction};
pub use rows::{RowProblem, Rows, rows};
pub use simt::{Simt, simt};

use crate::arch::Arch;
use crate::ptx::Kernel;
use crate::schedule::Schedule;
use wpk_plan::problem::Problem;
use wpk_plan::{DType, WeightLayout};

/// The kernel of a problem by the schedule that its family's estimate prefers, with that schedule's text.
///
/// # Errors
/// Where no family computes such a problem yet.
pub fn heuristic(problem: &Problem, layout: WeightLayout, arch: &Arch) -> Result<(Kernel, String), Unsupported> {
    match problem {
        Problem::Map(m) => {
            let s = chosen::<Pointwise>(m, arch)?;
            Ok((pointwise(m, &s, arch)?, s.to_string()))
        }
        Problem::Contraction(c) => {
            let tiled = || {
                let s = chosen::<Simt>(c, arch)?;
                Ok((simt(c, layout, &s, arch)?, s.to_string()))
            };
            // Without columns, or in double precision, nothing is shared between threads.
            if layout == WeightLayout::Dense && (c.roles().n.is_empty() || c.dtype == DType::F64) {
                let s = chosen::<Direct>(c, arch)?;
                return direct(c, &s, arch).map(|kernel| (kernel, s.to_string())).or_else(|_| tiled());
            }
            tiled()
        }
        Problem::Reduce(r) => {
            let folded = Folded::from(r);
            let s = chosen::<Reduction>(&folded, arch)?;
            Ok((reduction(&folded, &s, arch)?, s.to_string()))
        }
        Problem::Window(w) => {
            let folded = Folded::window(w).ok_or_else(|| Unsupported(format!("{problem:?}")))?;
            let s = chosen::<Reduction>(&folded, arch)?;
            Ok((reduction(&folded, &s, arch)?, s.to_string()))
        }
        Problem::Softmax(p) => by_rows(&RowProblem::Softmax(p.clone()), arch),
        Problem::Normalize(p) => by_rows(&RowProblem::Normalize(Box::new(p.clone())), arch),
        other => Err(Unsupported(format!("{} has no kernel family yet", other.family()))),
    }
}

fn by_rows(p: &RowProblem, arch: &Arch) -> Result<(Kernel, String), Unsupported> {
    let s = chosen::<Rows>(p, arch)?;
    Ok((rows(p, &s, arch)?, s.to_string()))
}

fn chosen<S: Schedule>(problem: &S::Problem, arch: &Arch) -> Result<S, Unsupported> {
    S::heuristic(problem, arch).ok_or_else(|| Unsupported(format!("no {} schedule fits", S::FAMILY)))
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
