//! Gathers and resampling: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::{Random, assemble_all, check, generated};
use wpk_kernels::arch::ARCHES;
use wpk_kernels::family::{IndexProblem, indexed};
use wpk_plan::DType;
use wpk_plan::problem::{Gather, GatherElements, GatherNd, Problem, Resample};

fn random(seed: u64) -> (Problem, IndexProblem) {
    let r = &mut Random(seed);
    let (outer, n, count) = (r.within(1, 3), r.within(1, 200), r.within(1, 20));
    let inner = if r.below(2) == 0 { 8 * r.within(1, 5) } else { r.within(1, 9) };
    let index = [DType::I64, DType::I32][r.below(2)];
    let dtype = [DType::F32, DType::F16, DType::I64, DType::U8][r.below(4)];
    match r.below(4) {
        0 => {
            let shape: Vec<usize> = (0..3).map(|_| r.within(1, 7)).collect();
            let axis = r.below(3);
            let out = shape.iter().enumerate().map(|(d, &n)| if d == axis { r.within(1, 9) } else { r.within(1, n) }).collect();
            let p = GatherElements { dtype, index, shape, out, axis };
            return (Problem::GatherElements(p.clone()), IndexProblem::Elements(p));
        }
        1 => {
            let dims = (0..r.within(1, 3)).map(|_| r.within(1, 6)).collect();
            let p = GatherNd { dtype, index, batch: outer, dims, inner, count };
            return (Problem::GatherNd(p.clone()), IndexProblem::Blocks(p));
        }
        _ => {}
    }
    if r.below(2) == 0 {
        let gather = Gather { dtype, index, outer, n, inner, count };
        return (Problem::Gather(gather.clone()), IndexProblem::Gather(gather));
    }
    let dtype = [DType::F32, DType::F16, DType::BF16][r.below(3)];
    let resample = Resample { dtype, outer, n, count, taps: r.within(1, 4), inner };
    (Problem::Resample(resample.clone()), IndexProblem::Resample(resample))
}

#[test]
fn random_positions_agree_with_the_evaluator() {
    for seed in 0..60 {
        let (problem, p) = random(seed);
        check(&problem, &generated(&p, &ARCHES[seed as usize % 2], Some(seed + 3), indexed), seed);
    }
}

#[test]
fn heuristic_schedules_are_assembled_without_spills() {
    assemble_all(|seed| random(seed).1, indexed);
}
