//! Softmax and normalization: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::{Random, assemble, assemble_all, check, generated};
use wpk_kernels::arch::ARCHES;
use wpk_kernels::family::{RowProblem, heuristic, long_rows, rows};
use wpk_plan::problem::{NormKind, Normalize, Operand, Problem, Softmax};
use wpk_plan::{DType, View, WeightLayout};

/// A random problem, in both forms.
fn random(seed: u64) -> (Problem, RowProblem) {
    let r = &mut Random(seed);
    let shape = [r.within(1, 3), r.within(1, 4), r.within(1, 300)];
    of(seed, shape)
}

fn of(seed: u64, shape: [usize; 3]) -> (Problem, RowProblem) {
    let r = &mut Random(seed + 1000);
    let dtype = [DType::F16, DType::F32, DType::F32, DType::F64][r.below(4)];
    let dense = Operand::dense(dtype, &shape);
    if r.below(2) == 0 {
        let softmax = Softmax { log: r.below(2) == 0, input: dense.clone(), output: dense };
        return (Problem::Softmax(softmax.clone()), RowProblem::Softmax(softmax));
    }
    let along = Operand { dtype, view: View { offset: 0, shape: shape.to_vec(), strides: vec![0, 0, 1] } };
    let mut maybe = |o: &Operand| (r.below(2) == 0).then(|| o.clone());
    let (residual, sum) = (maybe(&dense), maybe(&dense));
    let normalize = Normalize {
        kind: if seed.is_multiple_of(3) { NormKind::Rms } else { NormKind::Layer },
        epsilon: 1e-5,
        input: dense.clone(),
        residual: residual.map(|o| (o, sum)),
        scale: maybe(&along),
        bias: maybe(&along),
        output: dense,
    };
    (Problem::Normalize(normalize.clone()), RowProblem::Normalize(Box::new(normalize)))
}

#[test]
fn random_rows_agree_with_the_evaluator() {
    for seed in 0..60 {
        let (problem, p) = random(seed);
        check(&problem, &generated(&p, &ARCHES[seed as usize % 2], Some(seed + 3), rows), seed);
    }
}

#[test]
fn heuristic_schedules_are_assembled_without_spills() {
    assemble_all(|seed| random(seed).1, rows);
}

/// Rows that do not fit registers.
#[test]
fn long_rows_agree_with_the_evaluator() {
    for seed in 0..10 {
        let arch = &ARCHES[seed as usize % 2];
        let (problem, p) = of(seed, [1, 1, [32_800, 33_001][seed as usize % 2]]);
        check(&problem, &generated(&p, arch, Some(seed + 3), long_rows), seed);
        let made = heuristic(&problem, WeightLayout::Dense, arch).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(made.family, "long_rows");
        assemble(&made.kernel, arch);
    }
}
