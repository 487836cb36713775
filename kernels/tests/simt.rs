//! Contractions without tensor cores: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::{Random, assemble, check};
use wpk_kernels::arch::ARCHES;
use wpk_kernels::family::{Simt, simt};
use wpk_kernels::ptx::Kernel;
use wpk_kernels::schedule::Schedule;
use wpk_plan::problem::{Access, Affine, Contraction, Operand, Problem};
use wpk_plan::{Binary, DType, ScalarFn, View, WeightLayout};

/// `max(sum + bias, 0)`
fn epilogue() -> ScalarFn {
    let mut f = ScalarFn::default();
    let (sum, bias, zero) = (f.input(0, DType::F32), f.input(1, DType::F32), f.constant(0.0, DType::F32));
    let y = f.binary(Binary::Add, sum, bias);
    let y = f.binary(Binary::Max, y, zero);
    f.outputs = vec![y];
    f
}

/// A bias along output loop `d`.
fn bias(shape: &[usize], d: usize) -> Operand {
    let mut strides = vec![0; shape.len()];
    strides[d] = 1;
    Operand { dtype: DType::F32, view: View { offset: 0, shape: shape.to_vec(), strides } }
}

/// A batched product with either factor transposed.
fn product(r: &mut Random) -> Contraction {
    let (b, m, n, k) = (r.within(1, 2), r.within(1, 70), r.within(1, 70), r.within(1, 40));
    let side = |r: &mut Random, x: usize, y: usize| {
        if r.below(2) == 0 { View::dense(&[b, x, y]) } else { View::dense(&[b, y, x]).transpose(&[0, 2, 1]) }
    };
    let a = Access::new(&side(r, m, k), [0, 1, 3].map(Affine::of).to_vec());
    let w = Access::new(&side(r, k, n), [0, 3, 2].map(Affine::of).to_vec());
    let out = [b, m, n];
    Contraction {
        space: vec![b, m, n, k],
        outer: 3,
        dtype: DType::F32,
        tf32: false,
        a,
        b: w,
        sum: DType::F32,
        extras: vec![bias(&out, 2)],
        epilogue: epilogue(),
        out: Operand::dense(DType::F32, &out),
    }
}

/// A convolution over two dimensions with channels last, or its transpose.
fn convolution(r: &mut Random, dtype: DType) -> Contraction {
    let (ci, co, kh, kw) = (r.within(1, 9), r.within(1, 20), r.within(1, 3), r.within(1, 3));
    let (h, w, stride, dilation, pad) = (r.within(4, 8), r.within(4, 8), r.within(1, 2) as i64, r.within(1, 2) as i64, r.below(2) as i64);
    let transposed = r.below(2) == 0;
    let (oh, ow) =
        if transposed { (h * stride as usize, w * stride as usize) } else { (h.div_ceil(stride as usize), w.div_ceil(stride as usize)) };
    // Loops: row, column, channel out; channel in, window row, window column.
    let spatial = |o: u8, k: u8| match transposed {
        true => Affine { offset: pad, terms: vec![(o, 1), (k, -dilation)], divisor: stride },
        false => Affine { offset: -pad, terms: vec![(o, stride), (k, dilation)], divisor: 1 },
    };
    let a = Access::new(&View::dense(&[h, w, ci]), vec![spatial(0, 4), spatial(1, 5), Affine::of(3)]);
    let b = Access::new(&View::dense(&[co, ci, kh, kw]), [2, 3, 4, 5].map(Affine::of).to_vec());
    let out = [oh, ow, co];
    Contraction {
        space: vec![oh, ow, co, ci, kh, kw],
        outer: 3,
        dtype,
        tf32: false,
        a,
        b,
        sum: DType::F32,
        extras: vec![bias(&out, 2)],
        epilogue: epilogue(),
        out: Operand::dense(DType::F32, &out),
    }
}

fn random(seed: u64) -> Contraction {
    let r = &mut Random(seed);
    match seed % 3 {
        0 => product(r),
        1 => convolution(r, DType::F32),
        _ => convolution(r, DType::F16),
    }
}

/// A legal schedule, and the kernel it makes.
fn generated(c: &Contraction, seed: u64) -> Kernel {
    let arch = &ARCHES[seed as usize % 2];
    let facts = Simt::facts(c, arch);
    let legal: Vec<Simt> = Simt::space().filter(|s| s.legal(&facts)).collect();
    let schedule = legal[Random(seed + 99).below(legal.len())];
    simt(c, WeightLayout::Dense, &schedule, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"))
}

#[test]
fn random_contractions_agree_with_the_evaluator() {
    for seed in 0..60 {
        let c = random(seed);
        let kernel = generated(&c, seed);
        check(&Problem::Contraction(c), &kernel, seed);
    }
}

#[test]
fn heuristic_schedules_are_assembled_without_spills() {
    for arch in ARCHES {
        for seed in 0..3 {
            let c = random(seed);
            let schedule = Simt::heuristic(&c, arch).expect("a legal schedule");
            assemble(&simt(&c, WeightLayout::Dense, &schedule, arch).unwrap_or_else(|e| panic!("{e}")), arch);
        }
    }
}
