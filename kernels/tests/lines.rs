//! Running sums and positions of extremes: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::{Random, assemble_all, check, generated};
use wpk_kernels::arch::ARCHES;
use wpk_kernels::family::{LineProblem, lines};
use wpk_plan::DType;
use wpk_plan::problem::{ArgReduce, Problem, Scan};

fn random(seed: u64) -> (Problem, LineProblem) {
    let r = &mut Random(seed);
    let (outer, n, inner) = (r.within(1, 5), r.within(1, 12), r.within(1, 40));
    if r.below(2) == 0 {
        let dtype = [DType::F32, DType::F64, DType::I64, DType::I32][r.below(4)];
        let (product, exclusive, reverse) = (r.below(4) == 0 && !dtype.is_float(), r.below(2) == 0, r.below(2) == 0);
        let p = Scan { dtype, outer, n, inner, product, exclusive, reverse };
        return (Problem::Scan(p.clone()), LineProblem::Scan(p));
    }
    let dtype = [DType::F32, DType::F16, DType::I64, DType::I32][r.below(4)];
    let p = ArgReduce { dtype, outer, n, inner, largest: r.below(2) == 0, last: r.below(2) == 0 };
    (Problem::ArgReduce(p.clone()), LineProblem::ArgReduce(p))
}

#[test]
fn random_lines_agree_with_the_evaluator() {
    for seed in 0..80 {
        let (problem, p) = random(seed);
        check(&problem, &generated(&p, &ARCHES[seed as usize % 2], Some(seed + 3), lines), seed);
    }
}

#[test]
fn heuristic_schedules_are_assembled_without_spills() {
    assemble_all(|seed| random(seed).1, lines);
}
