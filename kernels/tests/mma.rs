//! Contractions on tensor cores: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::{Random, assemble, check_of};
use wpk_kernels::arch::{ARCHES, Arch};
use wpk_kernels::family::{Mma, Product, mma};
use wpk_kernels::schedule::Schedule;
use wpk_plan::problem::{Access, Affine, Contraction, Operand, Problem};
use wpk_plan::{Binary, DType, ScalarFn, View, WeightLayout};

/// The factors of a case: type, TF32, and the layout of the second.
const MODES: &[(DType, bool, WeightLayout)] = &[
    (DType::F16, false, WeightLayout::Dense),
    (DType::F16, false, WeightLayout::Columns),
    (DType::BF16, false, WeightLayout::Columns),
    (DType::F32, true, WeightLayout::Dense),
    (DType::F32, true, WeightLayout::Columns),
    (DType::F32, false, WeightLayout::Panels16),
    (DType::F32, false, WeightLayout::Dense),
];

/// `max(sum + bias, 0) + residual`, stored in the type of the factors.
fn epilogue(dtype: DType) -> ScalarFn {
    let mut f = ScalarFn::default();
    let (sum, bias, residual) = (f.input(0, DType::F32), f.input(1, DType::F32), f.input(2, dtype));
    let zero = f.constant(0.0, DType::F32);
    let y = f.binary(Binary::Add, sum, bias);
    let y = f.binary(Binary::Max, y, zero);
    let residual = f.cast(residual, DType::F32);
    let y = f.binary(Binary::Add, y, residual);
    f.outputs = vec![f.cast(y, dtype)];
    f
}

fn finish(space: &[usize], outer: usize, (dtype, tf32): (DType, bool), a: Access, b: Access) -> Contraction {
    let out = &space[..outer];
    let mut strides = vec![0; outer];
    strides[outer - 1] = 1;
    let bias = Operand { dtype: DType::F32, view: View { offset: 0, shape: out.to_vec(), strides } };
    Contraction {
        space: space.to_vec(),
        outer,
        dtype,
        tf32,
        a,
        b,
        sum: DType::F32,
        extras: vec![bias, Operand::dense(dtype, out)],
        epilogue: epilogue(dtype),
        out: Operand::dense(dtype, out),
    }
}

/// A batched product with either factor transposed.
fn product(r: &mut Random, mode: (DType, bool)) -> Contraction {
    let some = |r: &mut Random, most: usize| if r.below(2) == 0 { 8 * r.within(1, most / 8) } else { r.within(1, most) };
    let (b, m, n, k) = (r.within(1, 2), some(r, 90), some(r, 90), some(r, 100));
    let side = |r: &mut Random, x: usize, y: usize| {
        if r.below(2) == 0 { View::dense(&[b, x, y]) } else { View::dense(&[b, y, x]).transpose(&[0, 2, 1]) }
    };
    let a = Access::new(&side(r, m, k), [0, 1, 3].map(Affine::of).to_vec());
    let w = Access::new(&side(r, k, n), [0, 3, 2].map(Affine::of).to_vec());
    finish(&[b, m, n, k], 3, mode, a, w)
}

/// A convolution over two dimensions with channels last, or its transpose.
fn convolution(r: &mut Random, mode: (DType, bool)) -> Contraction {
    let ci = [3, 4, 8, 16, 24][r.below(5)];
    let (co, kh, kw) = (r.within(1, 40), r.within(1, 3), r.within(1, 3));
    let (h, w, stride, dilation, pad) = (r.within(4, 8), r.within(4, 8), r.within(1, 2) as i64, r.within(1, 2) as i64, r.below(2) as i64);
    let transposed = r.below(4) == 0;
    let (oh, ow) =
        if transposed { (h * stride as usize, w * stride as usize) } else { (h.div_ceil(stride as usize), w.div_ceil(stride as usize)) };
    // Loops: row, column, channel out; channel in, window row, window column.
    let spatial = |o: u8, k: u8| match transposed {
        true => Affine { offset: pad, terms: vec![(o, 1), (k, -dilation)], divisor: stride },
        false => Affine { offset: -pad, terms: vec![(o, stride), (k, dilation)], divisor: 1 },
    };
    let a = Access::new(&View::dense(&[h, w, ci]), vec![spatial(0, 4), spatial(1, 5), Affine::of(3)]);
    let b = Access::new(&View::dense(&[co, ci, kh, kw]), [2, 3, 4, 5].map(Affine::of).to_vec());
    finish(&[oh, ow, co, ci, kh, kw], 3, mode, a, b)
}

fn random(seed: u64) -> Product {
    let (dtype, tf32, layout) = MODES[seed as usize % MODES.len()];
    let r = &mut Random(seed);
    let contraction = if r.below(2) == 0 { product(r, (dtype, tf32)) } else { convolution(r, (dtype, tf32)) };
    Product { contraction, layout }
}

#[test]
fn random_contractions_agree_with_the_evaluator() {
    let arch = Arch::named("sm_80").expect("an architecture");
    for seed in 0..84 {
        let p = random(seed);
        let facts = Mma::facts(&p, arch);
        let legal: Vec<Mma> = Mma::space().filter(|s| s.legal(&facts)).collect();
        let s = legal[Random(seed + 99).below(legal.len())];
        let kernel = mma(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let Product { contraction, layout } = p;
        check_of(&Problem::Contraction(contraction), layout, &kernel, seed);
    }
}

#[test]
fn heuristic_schedules_are_assembled_without_spills() {
    for arch in ARCHES {
        for seed in 0..14 {
            let p = random(seed);
            match Mma::heuristic(&p, arch) {
                Some(s) => assemble(&mma(&p, &s, arch).unwrap_or_else(|e| panic!("{e}")), arch),
                None => assert_eq!(arch.matrix, 0.0, "{} has no schedule", arch.target),
            }
        }
    }
}

/// Infinite factors, and what is not a number, give what products in `f32` give.
#[test]
fn factors_that_are_not_finite_agree_with_the_evaluator() {
    let arch = Arch::named("sm_80").expect("an architecture");
    for seed in 0..12 {
        let r = &mut Random(seed);
        let mut planted = vec![(0, f64::INFINITY), (0, f64::NEG_INFINITY), (0, f64::from_bits(0x7fff_ffff_ffff_ffff))];
        let contraction = if r.below(2) == 0 {
            planted.extend([(1, f64::INFINITY), (1, f64::NEG_INFINITY)]);
            product(r, (DType::F32, false))
        } else {
            // Padding is zero to a kernel, and nothing to the evaluator: weights stay finite.
            convolution(r, (DType::F32, false))
        };
        let p = Product { contraction, layout: WeightLayout::Dense };
        let facts = Mma::facts(&p, arch);
        let legal: Vec<Mma> = Mma::space().filter(|s| s.legal(&facts)).collect();
        let s = legal[Random(seed + 99).below(legal.len())];
        let kernel = mma(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let problem = Problem::Contraction(p.contraction);
        if let Err(fault) = support::outcome_with(&problem, WeightLayout::Dense, &kernel, seed, &planted) {
            panic!("seed {seed} {s}: {fault}");
        }
    }
}
