//! Random contractions.

use super::Random;
use wpk_plan::problem::{Access, Affine, Contraction, Operand};
use wpk_plan::{Binary, DType, ScalarFn, Unary, View};

/// `max(sum + bias, 0) + residual`, stored in the type of the factors: bytes as the nearest of a sixteenth.
fn epilogue(dtype: DType) -> ScalarFn {
    let mut f = ScalarFn::default();
    let (sum, bias, residual) = (f.input(0, sums(dtype)), f.input(1, DType::F32), f.input(2, dtype));
    let sum = f.cast(sum, DType::F32);
    let zero = f.constant(0.0, DType::F32);
    let y = f.binary(Binary::Add, sum, bias);
    let y = f.binary(Binary::Max, y, zero);
    let residual = f.cast(residual, DType::F32);
    let mut y = f.binary(Binary::Add, y, residual);
    if dtype == DType::I8 {
        let (part, low, high) = (f.constant(0.0625, DType::F32), f.constant(-128.0, DType::F32), f.constant(127.0, DType::F32));
        y = f.binary(Binary::Mul, y, part);
        y = f.unary(Unary::Round, y);
        y = f.binary(Binary::Max, y, low);
        y = f.binary(Binary::Min, y, high);
    }
    f.outputs = vec![f.cast(y, dtype)];
    f
}

/// What products of factors are summed in.
fn sums(factors: DType) -> DType {
    if factors == DType::I8 { DType::I32 } else { DType::F32 }
}

pub fn finish(space: &[usize], outer: usize, (dtype, tf32): (DType, bool), a: Access, b: Access) -> Contraction {
    let out = &space[..outer];
    let mut strides = vec![0; outer];
    strides[outer - 1] = 1;
    let bias = Operand { dtype: DType::F32, view: View { offset: 0, shape: out.to_vec(), strides } };
    Contraction {
        space: space.to_vec(),
        outer,
        dtype,
        given: dtype,
        tf32,
        a,
        b,
        sum: sums(dtype),
        extras: vec![bias, Operand::dense(dtype, out)],
        epilogue: epilogue(dtype),
        out: Operand::dense(dtype, out),
    }
}

/// How many columns, so many at most; in half of the cases groups of 32, which kernels take by lane.
fn columns(r: &mut Random, most: usize) -> usize {
    if r.below(2) == 0 { 32 * r.within(1, most / 32) } else { r.within(1, most) }
}

/// A batched product with either factor transposed.
pub fn product(r: &mut Random, mode: (DType, bool)) -> Contraction {
    let some = |r: &mut Random, most: usize| if r.below(2) == 0 { 8 * r.within(1, most / 8) } else { r.within(1, most) };
    let (b, m, n, k) = (r.within(1, 2), some(r, 90), columns(r, 90), some(r, 100));
    let side = |r: &mut Random, x: usize, y: usize| {
        if r.below(2) == 0 { View::dense(&[b, x, y]) } else { View::dense(&[b, y, x]).transpose(&[0, 2, 1]) }
    };
    let a = Access::new(&side(r, m, k), [0, 1, 3].map(Affine::of).to_vec());
    let w = Access::new(&side(r, k, n), [0, 3, 2].map(Affine::of).to_vec());
    finish(&[b, m, n, k], 3, mode, a, w)
}

/// A convolution over two dimensions with channels last, or its transpose.
pub fn convolution(r: &mut Random, mode: (DType, bool)) -> Contraction {
    let ci = [3, 4, 8, 16, 24][r.below(5)];
    let (co, kh, kw) = (columns(r, 64), r.within(1, 3), r.within(1, 3));
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
