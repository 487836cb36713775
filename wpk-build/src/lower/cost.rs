//! What steps should cost on one core with wide vectors. Only ratios matter: covers are compared by them.

use wpk_plan::problem::{Contraction, Problem};
use wpk_plan::{DType, Plan};

/// Nanoseconds to start a step.
const STEP: f64 = 1000.0;
/// Bytes moved per nanosecond.
const BYTES: f64 = 20.0;

/// Numbers of a wide vector.
pub const VECTOR: usize = 16;

/// Estimated nanoseconds of a plan.
pub fn plan(plan: &Plan) -> f64 {
    plan.body.steps().iter().map(|s| STEP + problem(s.kernel.problem())).sum()
}

/// Estimated nanoseconds of one problem: the larger of arithmetic and traffic.
fn problem(p: &Problem) -> f64 {
    if let Problem::Chain(chain) = p {
        return chain.stages.iter().map(|s| problem(&s.problem)).sum();
    }
    let bytes: usize = p.inputs().iter().chain(&p.outputs()).map(|o| o.view.len() * o.dtype.bytes()).sum();
    // Operations per nanosecond.
    let rate = match p {
        Problem::Contraction(c) => contraction(c),
        Problem::Attention(_) => 160.0,
        Problem::Map(_) | Problem::Move(_) | Problem::Softmax(_) | Problem::Normalize(_) => 8.0,
        // Channels next to each other make vectors; single elements do not.
        Problem::Window(w) => {
            if w.dims.last().is_some_and(|d| d.size == 1) {
                8.0
            } else {
                0.2
            }
        }
        Problem::Reduce(_) => 4.0,
        _ => 1.0,
    };
    (p.operations() as f64 / rate).max(bytes as f64 / BYTES)
}

/// How the runtime will read the first factor decides the rate.
fn contraction(c: &Contraction) -> f64 {
    let roles = c.roles();
    if c.dtype == DType::I8 {
        let contiguous = roles.batch.last().is_some_and(|&l| c.a.stride(l, &c.space) == Some(1));
        return match (roles.channel.is_some(), roles.n.is_empty()) {
            (true, false) => 400.0,
            (false, true) if contiguous => 15.0,
            _ => 0.5,
        };
    }
    if c.dtype != DType::F32 {
        return 0.5;
    }
    match (roles.channel.map(|l| c.space[l]), roles.n.is_empty()) {
        (Some(VECTOR..), false) => 150.0,
        // Runs of neighbours that fill no vector.
        (Some(_), false) => 100.0,
        (None, true) => 15.0,
        (Some(_), true) => 20.0,
        // Elements are gathered one by one before they are multiplied.
        (None, false) => {
            if roles.offsets(&c.a, &roles.k()).is_some() {
                30.0
            } else {
                8.0
            }
        }
    }
}
