//! Orders, scattered updates, positions of maxima, and integers where others have floats: in the emulator against the naive evaluator,
//! and through `ptxas`.

mod support;

use support::{Random, assemble, check};
use wpk_kernels::arch::ARCHES;
use wpk_kernels::family::{heuristic, spaces};
use wpk_plan::problem::{
    Access, Affine, Contraction, Operand, Problem, Reduce, ReduceKind, ScatterElements, ScatterNd, ScatterReduce, TopK, Window, WindowDim,
    WindowKind,
};
use wpk_plan::{DType, ScalarFn, View, WeightLayout};

const TYPES: [DType; 8] = [DType::F32, DType::F16, DType::F64, DType::I64, DType::I32, DType::U8, DType::I8, DType::F32];
const REDUCES: [ScatterReduce; 5] = [ScatterReduce::None, ScatterReduce::Add, ScatterReduce::Mul, ScatterReduce::Max, ScatterReduce::Min];

fn random(seed: u64) -> Problem {
    let r = &mut Random(seed);
    let dtype = TYPES[r.below(TYPES.len())];
    let index = [DType::I64, DType::I32][r.below(2)];
    match r.below(6) {
        0 => {
            let n = r.within(1, 30);
            let (outer, inner, k) = (r.within(1, 4), r.within(1, 5), r.within(1, n));
            Problem::TopK(TopK { dtype, outer, n, inner, k, largest: r.below(2) == 0 })
        }
        1 => {
            let shape: Vec<usize> = (0..3).map(|_| r.within(1, 7)).collect();
            let axis = r.below(3);
            let updates = shape.iter().enumerate().map(|(d, &n)| if d == axis { r.within(0, 9) } else { r.within(1, n) }).collect();
            Problem::ScatterElements(ScatterElements { dtype, index, shape, updates, axis, reduce: REDUCES[r.below(5)] })
        }
        2 => {
            let dims = (0..r.within(1, 3)).map(|_| r.within(1, 5)).collect();
            let (inner, count) = (r.within(1, 6), r.within(0, 7));
            Problem::ScatterNd(ScatterNd { dtype, index, dims, inner, count, reduce: REDUCES[r.below(5)] })
        }
        3 => windows(r),
        4 => {
            let dtype = [DType::I64, DType::I32, DType::U8, DType::I8, DType::F64][r.below(5)];
            let shape: Vec<usize> = (0..3).map(|_| r.within(usize::from(!seed.is_multiple_of(5)), 9)).collect();
            let axes: Vec<bool> = (0..3).map(|d| d == seed as usize % 3 || r.below(2) == 0).collect();
            let kinds = [ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min, ReduceKind::Prod, ReduceKind::SumSquare, ReduceKind::SumAbs];
            let out: Vec<usize> = shape.iter().zip(&axes).map(|(&n, &a)| if a { 1 } else { n.max(1) }).collect();
            let shape: Vec<usize> = shape.iter().zip(&axes).map(|(&n, &a)| if a { n } else { n.max(1) }).collect();
            let (input, output) = (Operand::dense(dtype, &shape), Operand::dense(dtype, &out));
            Problem::Reduce(Reduce { kind: kinds[r.below(kinds.len())], axes, input, output })
        }
        _ => product(r),
    }
}

fn windows(r: &mut Random) -> Problem {
    let dtype = [DType::F32, DType::F64, DType::I8][r.below(3)];
    let kind = if dtype.is_float() && r.below(2) == 0 { WindowKind::Mean } else { WindowKind::Max };
    let whole = |_| WindowDim { size: 1, stride: 1, dilation: 1, pad: 0, pad_end: 0 };
    let mut dims: Vec<WindowDim> = (0..4).map(whole).collect();
    let mut shape = vec![r.within(1, 2), r.within(1, 3), r.within(3, 9), r.within(3, 9)];
    let mut out = shape.clone();
    for d in 2..4 {
        let (size, stride, dilation, pad) = (r.within(1, 3), r.within(1, 2), r.within(1, 2), r.below(2));
        shape[d] = shape[d].max(size * dilation);
        dims[d] = WindowDim { size, stride, dilation, pad, pad_end: pad };
        // The last window may reach beyond the padding.
        out[d] = (shape[d] + 2 * pad - (size - 1) * dilation - 1) / stride + 1 + usize::from(kind == WindowKind::Mean && stride == 2);
        out[d] = out[d].min((shape[d] + pad - 1) / stride + 1);
    }
    let indices = (kind == WindowKind::Max).then(|| Operand::dense(DType::I64, &out));
    let (input, output) = (Operand::dense(dtype, &shape), Operand::dense(dtype, &out));
    Problem::Window(Window { kind, dims, count_pad: r.below(2) == 0, input, output, indices })
}

/// A product of matrices of integers.
fn product(r: &mut Random) -> Problem {
    let dtype = [DType::I32, DType::I64][r.below(2)];
    let (m, n, depth) = (r.within(1, 9), r.within(1, 9), r.within(1, 40));
    let access =
        |rows: usize, columns: usize, at: [usize; 2]| Access::new(&View::dense(&[rows, columns]), at.into_iter().map(Affine::of).collect());
    let mut epilogue = ScalarFn::default();
    let x = epilogue.input(0, dtype);
    epilogue.outputs = vec![x];
    Problem::Contraction(Contraction {
        space: vec![m, n, depth],
        outer: 2,
        dtype,
        given: dtype,
        tf32: false,
        a: access(m, depth, [0, 2]),
        b: access(depth, n, [2, 1]),
        sum: dtype,
        extras: vec![],
        epilogue,
        out: Operand::dense(dtype, &[m, n]),
    })
}

#[test]
fn random_problems_agree_with_the_evaluator() {
    for seed in 0..400 {
        let (problem, arch) = (random(seed), &ARCHES[seed as usize % 2]);
        let made = heuristic(&problem, WeightLayout::Dense, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        check(&problem, &made.kernel, seed);
        // A search finds the family, too, and any of its schedules.
        let all = spaces(&problem, WeightLayout::Dense, arch);
        let space = all.iter().find(|s| s.family == made.family).unwrap_or_else(|| panic!("seed {seed}: no space {}", made.family));
        let legal = space.all();
        let values = &legal[Random(seed).below(legal.len())].values;
        let kernel = space.generate(values).unwrap_or_else(|e| panic!("seed {seed}: {e}")).kernel;
        check(&problem, &kernel, seed + 1);
    }
}

#[test]
fn heuristic_schedules_are_assembled_without_spills() {
    for arch in ARCHES {
        for seed in 0..24 {
            assemble(&heuristic(&random(seed), WeightLayout::Dense, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}")).kernel, arch);
        }
    }
}

/// Lines of more elements than shared memory holds numbers at once, many of them equal.
#[test]
fn long_lines_are_put_in_order() {
    let arch = ARCHES.iter().find(|a| a.target == "sm_80").expect("an architecture");
    for (seed, (dtype, largest)) in [(DType::F16, true), (DType::I8, false)].into_iter().enumerate() {
        let problem = Problem::TopK(TopK { dtype, outer: 1, n: 2100, inner: 1, k: 2100, largest });
        let space = &spaces(&problem, WeightLayout::Dense, arch)[0];
        let candidates = space.all();
        let chosen = &candidates[Random(seed as u64).below(candidates.len())];
        let kernel = space.generate(&chosen.values).expect("a kernel").kernel;
        let planted: &[(usize, f64)] = if dtype.is_float() { &[(0, f64::NAN), (0, -0.0), (0, f64::INFINITY)] } else { &[] };
        assert_eq!(support::outcome_with(&problem, WeightLayout::Dense, &kernel, seed as u64, planted), Ok(()), "{chosen:?}");
    }
}
