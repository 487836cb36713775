//! Elementary functions of `f32` in the DSL, with the formulas of the CPU runtime.

use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Op, Ty};
use wpk_plan::number;

fn c(k: &Writer, x: f64) -> Val {
    k.float(x, Ty::F32)
}

/// A polynomial by Horner's rule, the highest coefficient first.
fn polynomial(k: &mut Writer, x: Val, coefficients: &[f64]) -> Val {
    let mut sum = c(k, coefficients[0]);
    for &next in &coefficients[1..] {
        let next = c(k, next);
        sum = k.fma(sum, x, next);
    }
    sum
}

/// The smaller or larger of a value and a constant; not a number stays.
fn limit(k: &mut Writer, x: Val, bound: f64, upper: bool) -> Val {
    let bound = c(k, bound);
    let beyond = if upper { k.compare(Cmp::Lt, bound, x) } else { k.compare(Cmp::Lt, x, bound) };
    k.select(beyond, bound, x)
}

/// `e^x`
pub fn exp(k: &mut Writer, x: Val) -> Val {
    if k.fast {
        let log2e = c(k, std::f64::consts::LOG2_E);
        let z = k.mul(x, log2e);
        return k.op(Ty::F32, Op::Exp2, &[z]);
    }
    let top = limit(k, x, 88.73, true);
    let v = limit(k, top, -87.3, false);
    let (log2e, magic) = (c(k, std::f64::consts::LOG2_E), c(k, 12_582_912.0));
    let z = k.fma(v, log2e, magic);
    let n = k.sub(z, magic);
    let (high, low) = (c(k, -0.693_359_375), c(k, 2.121_944_4e-4));
    let r = k.fma(n, high, v);
    let r = k.fma(n, low, r);
    let p = polynomial(k, r, &[1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0]);
    // Near the top the last doubling is a product of its own: 2^128 is no number.
    let near = c(k, 88.0);
    let last = k.compare(Cmp::Lt, near, x);
    let bits = k.op(Ty::U32, Op::Bits(Ty::F32), &[z]);
    let (zero, one) = (k.int(0, Ty::U32), k.int(1, Ty::U32));
    let less = k.select(last, one, zero);
    let bits = k.sub(bits, less);
    let shift = k.int(23, Ty::U32);
    let bits = k.op(Ty::U32, Op::Shl, &[bits, shift]);
    let bias = k.int(127 << 23, Ty::U32);
    let bits = k.add(bits, bias);
    let power = k.op(Ty::F32, Op::Bits(Ty::U32), &[bits]);
    let y = k.mul(p, power);
    let (two, unit) = (c(k, 2.0), c(k, 1.0));
    let factor = k.select(last, two, unit);
    let y = k.mul(y, factor);
    let (over, infinity) = (c(k, 88.722_84), c(k, f64::INFINITY));
    let over = k.compare(Cmp::Lt, over, x);
    let y = k.select(over, infinity, y);
    let (under, nothing) = (c(k, -87.3), c(k, 0.0));
    let under = k.compare(Cmp::Lt, x, under);
    k.select(under, nothing, y)
}

/// `x / y`
pub fn divide(k: &mut Writer, x: Val, y: Val) -> Val {
    if !k.fast {
        return k.op(Ty::F32, Op::Div, &[x, y]);
    }
    let inverse = k.op(Ty::F32, Op::Recip, &[y]);
    k.mul(x, inverse)
}

/// `x / y` for `x` up to 1 and `y` from 1 on, by an inverse that is improved once: without the branch of the exact division, which keeps neighbouring elements
/// from overlapping.
fn ratio(k: &mut Writer, x: Val, y: Val) -> Val {
    if k.fast {
        return divide(k, x, y);
    }
    // Of infinity nothing would be left but no number.
    let most = c(k, 2f64.powi(126));
    let y = k.extreme(false, y, most);
    let inverse = k.op(Ty::F32, Op::Recip, &[y]);
    let first = k.mul(x, inverse);
    let minus = k.op(Ty::F32, Op::Neg, &[first]);
    let rest = k.fma(minus, y, x);
    k.fma(rest, inverse, first)
}

/// Natural logarithm: the exponent, and a series of `artanh` for the rest (`log m = 2 artanh((m - 1) / (m + 1))`).
pub fn log(k: &mut Writer, x: Val) -> Val {
    // Subnormal numbers are scaled into range first.
    let (least, up) = (c(k, f64::from(f32::MIN_POSITIVE)), c(k, f64::from(1u32 << 24)));
    let tiny = k.compare(Cmp::Lt, x, least);
    let scaled = k.mul(x, up);
    let y = k.select(tiny, scaled, x);
    // An exponent such that the rest lies between sqrt(1/2) and sqrt 2.
    let bits = k.op(Ty::S32, Op::Bits(Ty::F32), &[y]);
    let (root, shift, mask) = (k.int(0x3f35_04f3, Ty::S32), k.int(23, Ty::U32), k.int(0xff80_0000, Ty::S32));
    let above = k.sub(bits, root);
    let exponent = k.op(Ty::S32, Op::Shr, &[above, shift]);
    let power = k.op(Ty::S32, Op::And, &[above, mask]);
    let rest = k.sub(bits, power);
    let m = k.op(Ty::F32, Op::Bits(Ty::S32), &[rest]);
    let (e, correction, zero) = (k.op(Ty::F32, Op::Convert(Ty::S32), &[exponent]), c(k, -24.0), c(k, 0.0));
    let correction = k.select(tiny, correction, zero);
    let e = k.add(e, correction);
    let one = c(k, 1.0);
    let (top, bottom) = (k.sub(m, one), k.add(m, one));
    let s = k.op(Ty::F32, Op::Div, &[top, bottom]);
    let square = k.mul(s, s);
    let p = polynomial(k, square, &[2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0]);
    let tail = k.mul(square, p);
    let twice = k.add(s, s);
    let series = k.fma(s, tail, twice);
    let (high, low) = (c(k, 0.693_359_375), c(k, -2.121_944_4e-4));
    let y = k.fma(e, low, series);
    let y = k.fma(e, high, y);
    // Zero, infinity, and what has no logarithm.
    let (least, most) = (c(k, f64::NEG_INFINITY), c(k, f64::INFINITY));
    let is_zero = k.compare(Cmp::Eq, x, zero);
    let y = k.select(is_zero, least, y);
    let is_most = k.compare(Cmp::Eq, x, most);
    let y = k.select(is_most, most, y);
    let (negative, nan) = (k.compare(Cmp::Lt, x, zero), k.compare(Cmp::Nan, x, x));
    let none = k.op(Ty::Pred, Op::Or, &[negative, nan]);
    let not = c(k, f64::NAN);
    k.select(none, not, y)
}

/// `1 / (1 + e^-x)`
pub fn sigmoid(k: &mut Writer, x: Val) -> Val {
    let minus = k.op(Ty::F32, Op::Neg, &[x]);
    let e = exp(k, minus);
    let one = c(k, 1.0);
    let sum = k.add(e, one);
    ratio(k, one, sum)
}

/// `y` with the sign of `x`.
fn with_sign(k: &mut Writer, y: Val, x: Val) -> Val {
    let zero = c(k, 0.0);
    let negative = k.compare(Cmp::Lt, x, zero);
    let minus = k.op(Ty::F32, Op::Neg, &[y]);
    k.select(negative, minus, y)
}

/// Hyperbolic tangent.
pub fn tanh(k: &mut Writer, x: Val) -> Val {
    let a = k.op(Ty::F32, Op::Abs, &[x]);
    let s = k.mul(x, x);
    let p = polynomial(k, s, &[62.0 / 2835.0, -17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0, 1.0]);
    let small = k.mul(x, p);
    let minus = c(k, -2.0);
    let twice = k.mul(a, minus);
    let e = exp(k, twice);
    let one = c(k, 1.0);
    let (top, bottom) = (k.sub(one, e), k.add(one, e));
    let large = ratio(k, top, bottom);
    let large = with_sign(k, large, x);
    let edge = c(k, 0.3);
    let near = k.compare(Cmp::Lt, a, edge);
    k.select(near, small, large)
}

/// The error function.
pub fn erf(k: &mut Writer, x: Val) -> Val {
    let a = k.op(Ty::F32, Op::Abs, &[x]);
    let s = k.mul(x, x);
    let series = [-0.000_854_832_7, 0.005_223_977_6, -0.026_866_17, 0.112_837_92, -0.376_126_4, std::f64::consts::FRAC_2_SQRT_PI];
    let p = polynomial(k, s, &series);
    let small = k.mul(x, p);
    let root = c(k, std::f64::consts::SQRT_2);
    let scaled = k.mul(a, root);
    let (rest, one) = (tail(k, scaled, 1.0), c(k, 1.0));
    let large = k.sub(one, rest);
    let large = with_sign(k, large, x);
    let edge = c(k, 0.5);
    let near = k.compare(Cmp::Lt, a, edge);
    k.select(near, small, large)
}

/// As [`number::TAIL`], for results of half precision: by 9.4e-5 of the tail, a fifth of what rounding those costs.
const SHORT_TAIL: [f64; 5] = [-3.282_426e-4, 5.919_984_4e-3, -4.864_025e-2, -4.633_582e-1, -1.149_758_9];

/// `erfc(a / sqrt 2)` for `a` from 0 on, by a power of two.
fn tail(k: &mut Writer, a: Val, by: f64) -> Val {
    let of = if k.fast { polynomial(k, a, &SHORT_TAIL) } else { polynomial(k, a, &number::TAIL) };
    let by = c(k, by.log2());
    let exponent = k.fma(of, a, by);
    k.op(Ty::F32, Op::Exp2, &[exponent])
}

/// `x/2 (1 + erf(x / sqrt 2))`, which is `max(x, 0)` less what a tail makes of the distance from zero.
pub fn gelu(k: &mut Writer, x: Val) -> Val {
    let a = k.op(Ty::F32, Op::Abs, &[x]);
    // Beyond, the tail is zero.
    let (far, zero) = (c(k, 64.0), c(k, 0.0));
    let a = k.extreme(false, a, far);
    let half = tail(k, a, 0.5);
    let (minus, positive) = (k.op(Ty::F32, Op::Neg, &[a]), k.extreme(true, x, zero));
    k.fma(minus, half, positive)
}

/// GELU by its tanh approximation.
pub fn gelu_tanh(k: &mut Writer, x: Val) -> Val {
    let (cubic, root) = (c(k, 0.044_715), c(k, 0.797_884_6));
    let square = k.mul(x, x);
    let cube = k.mul(square, x);
    let sum = k.fma(cube, cubic, x);
    let argument = k.mul(sum, root);
    let t = tanh(k, argument);
    half_of(k, x, t)
}

/// `x/2 (1 + y)`
fn half_of(k: &mut Writer, x: Val, y: Val) -> Val {
    let (half, one) = (c(k, 0.5), c(k, 1.0));
    let sum = k.add(y, one);
    let part = k.mul(x, half);
    k.mul(part, sum)
}
