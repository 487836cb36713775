//! Chains: their meaning, their encoding, their faults.

use wpk_kernels::{Rounding, Tensor, eval};
use wpk_plan::problem::{Chain, Family, Map, Operand, Problem, Reduce, ReduceKind, Source, Stage};
use wpk_plan::{Binary, Codec, DType, Reader, ScalarFn};

/// The rows' sums of `x * y`, as a map and a reduction.
fn chain() -> Chain {
    let whole = Operand::dense(DType::F32, &[3, 4]);
    let mut function = ScalarFn::default();
    let (x, y) = (function.input(0, DType::F32), function.input(1, DType::F32));
    function.outputs = vec![function.binary(Binary::Mul, x, y)];
    let map = Map { shape: vec![3, 4], inputs: vec![whole.clone(); 2], function, outputs: vec![whole.clone()] };
    let output = Operand::dense(DType::F32, &[3, 1]);
    let reduce = Reduce { kind: ReduceKind::Sum, input: whole, axes: vec![false, true], output };
    Chain {
        stages: vec![
            Stage { problem: Problem::Map(map), sources: vec![Source::Operand(0), Source::Operand(1)] },
            Stage { problem: Problem::Reduce(reduce), sources: vec![Source::Stage(0, 0)] },
        ],
    }
}

#[test]
fn a_chain_is_its_stages_one_after_the_other() {
    let number = |k: usize| Tensor::floats(DType::F32, (0..12).map(|i| ((i * k) % 7) as f64).collect());
    let (x, y) = (number(3), number(5));
    let c = chain();
    assert_eq!((c.faults(), c.inputs().len(), c.operations()), (vec![], 2, 12 + 36));
    let expected: Vec<f64> = (0..3).map(|r| (0..4).map(|i| x.f(4 * r + i) * y.f(4 * r + i)).sum()).collect();
    let found = eval(&Problem::Chain(c), &[&x, &y], Rounding::Never);
    assert_eq!((0..3).map(|i| found[0].f(i)).collect::<Vec<_>>(), expected);
}

#[test]
fn a_chain_keeps_its_encoding() {
    let problem = Problem::Chain(chain());
    let mut bytes = vec![];
    problem.encode(&mut bytes);
    assert_eq!(Problem::decode(&mut Reader::new(&bytes)).as_ref(), Ok(&problem));
}

#[test]
fn sources_that_are_not_there_are_faults() {
    let faults = |change: &dyn Fn(&mut Chain)| {
        let mut c = chain();
        change(&mut c);
        c.faults().join("; ")
    };
    assert!(faults(&|c| c.stages[1].sources[0] = Source::Stage(1, 0)).contains("stage 1 reads Stage(1, 0)"));
    assert!(faults(&|c| c.stages[0].sources[1] = Source::Operand(2)).contains("read by no stage"));
    assert!(faults(&|c| c.stages.clear()).contains("without stages"));
}
