//! Depthwise convolutions, pooling and reductions: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::{Random, assemble, check};
use wpk_kernels::arch::{ARCHES, Arch};
use wpk_kernels::family::{Direct, Folded, Reduction, direct, reduction};
use wpk_kernels::ptx::Kernel;
use wpk_kernels::schedule::Schedule;
use wpk_plan::problem::{Access, Affine, Contraction, Operand, Problem, Reduce, ReduceKind, Window, WindowDim, WindowKind};
use wpk_plan::{DType, ScalarFn, View};

/// A depthwise convolution with channels last.
fn depthwise(r: &mut Random) -> Contraction {
    let (b, h, w, c) = (r.within(1, 2), r.within(3, 7), r.within(3, 7), r.within(1, 9) * r.within(1, 4));
    let (stride, pad) = (r.within(1, 2), r.below(2));
    let (oh, ow) = ((h + 2 * pad - 3) / stride + 1, (w + 2 * pad - 3) / stride + 1);
    let spatial = |o: u8, k: u8| Affine { offset: -(pad as i64), terms: vec![(o, stride as i64), (k, 1)], divisor: 1 };
    let out = [b, oh, ow, c];
    Contraction {
        space: vec![b, oh, ow, c, 3, 3],
        outer: 4,
        dtype: DType::F32,
        given: DType::F32,
        tf32: false,
        a: Access::new(&View::dense(&[b, h, w, c]), vec![Affine::of(0), spatial(1, 4), spatial(2, 5), Affine::of(3)]),
        b: Access::new(&View::dense(&[3, 3, c]), [4, 5, 3].map(Affine::of).to_vec()),
        sum: DType::F32,
        extras: vec![],
        epilogue: ScalarFn::identity(DType::F32),
        out: Operand::dense(DType::F32, &out),
    }
}

fn pooling(r: &mut Random) -> Window {
    let c = if r.below(2) == 0 { 4 * r.within(1, 6) } else { r.within(1, 20) };
    let (b, h, w) = (r.within(1, 2), r.within(3, 9), r.within(3, 9));
    let dtype = [DType::F32, DType::F16, DType::BF16][r.below(3)];
    let (size, stride, pad) = (r.within(1, 3), r.within(1, 2), 0);
    let pad = pad + r.below(size.min(2));
    let out = |n: usize| (n + 2 * pad - size) / stride + 1;
    let dim = WindowDim { size, stride, dilation: 1, pad, pad_end: pad };
    let whole = WindowDim { size: 1, stride: 1, dilation: 1, pad: 0, pad_end: 0 };
    Window {
        kind: [WindowKind::Max, WindowKind::Mean, WindowKind::Sum][r.below(3)],
        dims: vec![whole, dim, dim, whole],
        count_pad: r.below(2) == 0,
        input: Operand::dense(dtype, &[b, h, w, c]),
        output: Operand::dense(dtype, &[b, out(h), out(w), c]),
        indices: None,
    }
}

fn reduce(r: &mut Random) -> Reduce {
    let shape = [r.within(1, 5), r.within(1, 50), r.within(1, 40)];
    let axes = [r.below(2) == 0, r.below(2) == 0, r.below(2) == 0];
    let out: Vec<usize> = shape.iter().zip(axes).map(|(&n, a)| if a { 1 } else { n }).collect();
    let kinds = [ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max, ReduceKind::Min, ReduceKind::SumAbs, ReduceKind::SumSquare];
    Reduce {
        kind: kinds[r.below(6)],
        input: Operand::dense(DType::F32, &shape),
        axes: axes.to_vec(),
        output: Operand::dense(DType::F32, &out),
    }
}

/// A legal schedule by chance, or the heuristic's.
fn pick<S: Schedule>(problem: &S::Problem, arch: &Arch, seed: Option<u64>) -> S {
    let facts = S::facts(problem, arch);
    let legal: Vec<S> = S::space().filter(|s| s.legal(&facts)).collect();
    seed.map_or_else(|| S::heuristic(problem, arch).expect("a schedule"), |seed| legal[Random(seed).below(legal.len())])
}

fn case(seed: u64, arch: &Arch, chance: Option<u64>) -> (Problem, Kernel) {
    let r = &mut Random(seed);
    match seed % 3 {
        0 => {
            let c = depthwise(r);
            let kernel = direct(&c, &pick::<Direct>(&c, arch, chance), arch);
            (Problem::Contraction(c), kernel.unwrap_or_else(|e| panic!("{e}")))
        }
        n => {
            let (problem, folded) = if n == 1 {
                let w = pooling(r);
                let folded = Folded::window(&w).expect("a reduction");
                (Problem::Window(w), folded)
            } else {
                let reduce = reduce(r);
                let folded = Folded::from(&reduce);
                (Problem::Reduce(reduce), folded)
            };
            let kernel = reduction(&folded, &pick::<Reduction>(&folded, arch, chance), arch);
            (problem, kernel.unwrap_or_else(|e| panic!("{e}")))
        }
    }
}

#[test]
fn random_problems_agree_with_the_evaluator() {
    for seed in 0..120 {
        let (problem, kernel) = case(seed, &ARCHES[seed as usize % 2], Some(seed + 7));
        check(&problem, &kernel, seed);
    }
}

#[test]
fn rows_of_results_agree_with_the_evaluator() {
    let mut widest = vec![];
    for seed in 0..60 {
        let c = depthwise(&mut Random(seed));
        let facts = Direct::facts(&c, &ARCHES[1]);
        let s = Direct::space().filter(|s| s.legal(&facts)).max_by_key(|s| (s.rows, s.steps, s.vector)).expect("a schedule");
        let kernel = direct(&c, &s, &ARCHES[1]).unwrap_or_else(|e| panic!("{e}"));
        check(&Problem::Contraction(c), &kernel, seed);
        widest.push((s.rows, s.steps));
    }
    for (rows, steps) in [(2, 2), (2, 4), (4, 2), (4, 4)] {
        assert!(widest.contains(&(rows, steps)), "no case has {rows} rows of {steps}: {widest:?}");
    }
}

#[test]
fn neighbours_are_pooled_at_once() {
    let mut widths = vec![];
    for seed in 0..40 {
        let w = pooling(&mut Random(seed));
        let folded = Folded::window(&w).expect("a reduction");
        let facts = Reduction::facts(&folded, &ARCHES[1]);
        let legal: Vec<Reduction> = Reduction::space().filter(|s| s.legal(&facts)).collect();
        let widest = legal.iter().max_by_key(|s| s.vector).expect("a schedule");
        let kernel = reduction(&folded, widest, &ARCHES[1]).unwrap_or_else(|e| panic!("{e}"));
        check(&Problem::Window(w), &kernel, seed);
        widths.push(widest.vector);
    }
    for width in [1, 2, 4, 8] {
        assert!(widths.contains(&width), "no case reads {width} at once: {widths:?}");
    }
}

#[test]
fn heuristic_schedules_are_assembled_without_spills() {
    for arch in ARCHES {
        for seed in 0..6 {
            assemble(&case(seed, arch, None).1, arch);
        }
    }
}
