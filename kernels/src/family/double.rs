//! Elementary functions in `f64`, within 4 units in the last place unless stated. Those that models use rarely are computed this way for
//! narrower types too, which then lose nothing but their own rounding.

use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Op, Ty};
use std::f64::consts::{FRAC_2_SQRT_PI, FRAC_PI_2, FRAC_PI_4, LN_2, LOG2_E};
use wpk_plan::Unary;

/// `ln 2` in two parts, the first with zeros behind, so that its small multiples are exact.
const LN2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
/// `pi / 2` in three parts.
const HALF_PI: [f64; 3] = [FRAC_PI_2, 6.123_233_995_736_766e-17, -1.497_384_904_859_169_8e-33];
/// From here on one makes no difference beside the square.
const HUGE: f64 = 1e9;

fn c(k: &Writer, x: f64) -> Val {
    k.float(x, Ty::F64)
}

/// `a op x` with a constant.
fn with(k: &mut Writer, op: Op, a: Val, x: f64) -> Val {
    let x = c(k, x);
    k.op(Ty::F64, op, &[a, x])
}

fn one(k: &mut Writer, op: Op, a: Val) -> Val {
    k.op(Ty::F64, op, &[a])
}

/// `a < x`
fn below(k: &mut Writer, a: Val, x: f64) -> Val {
    let x = c(k, x);
    k.compare(Cmp::Lt, a, x)
}

/// `a > x`
fn above(k: &mut Writer, a: Val, x: f64) -> Val {
    let x = c(k, x);
    k.compare(Cmp::Lt, x, a)
}

/// `sum of coefficients[i] x^i`
fn series(k: &mut Writer, x: Val, coefficients: &[f64]) -> Val {
    let mut rest = coefficients.iter().rev();
    let mut sum = c(k, *rest.next().unwrap_or(&0.0));
    for &next in rest {
        let next = c(k, next);
        sum = k.fma(sum, x, next);
    }
    sum
}

/// `signs^n / (first + 2n)!`: sines and cosines, plain (1) or circular (-1).
fn factorials(first: u32, sign: f64, count: i32) -> Vec<f64> {
    let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
    (0..count).map(|n| sign.powi(n) / factorial(first + 2 * n as u32)).collect()
}

/// `y` with the sign of `x`, which it has not yet.
fn signed_as(k: &mut Writer, y: Val, x: Val) -> Val {
    let bits = |k: &mut Writer, v| k.op(Ty::S64, Op::Bits(Ty::F64), &[v]);
    let (x, y, mask) = (bits(k, x), bits(k, y), k.int(i64::MIN, Ty::S64));
    let sign = k.op(Ty::S64, Op::And, &[x, mask]);
    let both = k.op(Ty::S64, Op::Or, &[y, sign]);
    k.op(Ty::F64, Op::Bits(Ty::S64), &[both])
}

/// `2^n` for a whole number in the range of exponents.
fn power_of_two(k: &mut Writer, n: Val) -> Val {
    let (n, shift) = (k.op(Ty::S64, Op::Convert(Ty::F64), &[n]), k.int(52, Ty::U32));
    let biased = k.plus(n, 1023);
    let bits = k.op(Ty::S64, Op::Shl, &[biased, shift]);
    k.op(Ty::F64, Op::Bits(Ty::S64), &[bits])
}

/// `e^x`: a series for what is left of a multiple of `ln 2`.
pub fn exp(k: &mut Writer, x: Val) -> Val {
    let high = above(k, x, 710.0);
    let most = c(k, 710.0);
    let v = k.select(high, most, x);
    let low = below(k, v, -746.0);
    let least = c(k, -746.0);
    let v = k.select(low, least, v);
    let n = with(k, Op::Mul, v, LOG2_E);
    let n = one(k, Op::Round, n);
    let r = LN2.iter().fold(v, |r, &part| {
        let part = c(k, -part);
        k.fma(n, part, r)
    });
    let coefficients: Vec<f64> = (0..14u32).map(|n| 1.0 / (1..=n).map(f64::from).product::<f64>()).collect();
    let p = series(k, r, &coefficients);
    // In two factors: the power alone may be no number.
    let half = with(k, Op::Mul, n, 0.5);
    let half = one(k, Op::Floor, half);
    let rest = k.sub(n, half);
    let (first, second) = (power_of_two(k, half), power_of_two(k, rest));
    let y = k.mul(p, first);
    k.mul(y, second)
}

/// Natural logarithm: the exponent, and a series of `artanh` for the rest.
pub fn log(k: &mut Writer, x: Val) -> Val {
    let tiny = below(k, x, f64::MIN_POSITIVE);
    let scaled = with(k, Op::Mul, x, 2f64.powi(54));
    let y = k.select(tiny, scaled, x);
    let bits = k.op(Ty::S64, Op::Bits(Ty::F64), &[y]);
    // An exponent such that the rest lies between sqrt(1/2) and sqrt 2.
    let (root, shift, mask) =
        (k.int(std::f64::consts::FRAC_1_SQRT_2.to_bits() as i64, Ty::S64), k.int(52, Ty::U32), k.int(-1 << 52, Ty::S64));
    let over = k.sub(bits, root);
    let exponent = k.op(Ty::S64, Op::Shr, &[over, shift]);
    let power = k.op(Ty::S64, Op::And, &[over, mask]);
    let rest = k.sub(bits, power);
    let m = k.op(Ty::F64, Op::Bits(Ty::S64), &[rest]);
    let e = k.op(Ty::F64, Op::Convert(Ty::S64), &[exponent]);
    let (correction, zero) = (c(k, -54.0), c(k, 0.0));
    let correction = k.select(tiny, correction, zero);
    let e = k.add(e, correction);
    let (top, bottom) = (with(k, Op::Sub, m, 1.0), with(k, Op::Add, m, 1.0));
    let s = k.op(Ty::F64, Op::Div, &[top, bottom]);
    let square = k.mul(s, s);
    let coefficients: Vec<f64> = (1..12).map(|n| 2.0 / f64::from(2 * n + 1)).collect();
    let p = series(k, square, &coefficients);
    let tail = k.mul(square, p);
    let low = c(k, LN2[1]);
    let low = k.mul(e, low);
    let rest = k.fma(s, tail, low);
    let twice = k.add(s, s);
    let rest = k.add(twice, rest);
    let high = c(k, LN2[0]);
    let y = k.fma(e, high, rest);
    // Zero, infinity, and what has no logarithm.
    let (least, most, not) = (c(k, f64::NEG_INFINITY), c(k, f64::INFINITY), c(k, f64::NAN));
    let is_zero = k.compare(Cmp::Eq, x, zero);
    let y = k.select(is_zero, least, y);
    let is_most = k.compare(Cmp::Eq, x, most);
    let y = k.select(is_most, most, y);
    let (negative, nan) = (below(k, x, 0.0), k.compare(Cmp::Nan, x, x));
    let none = k.op(Ty::Pred, Op::Or, &[negative, nan]);
    k.select(none, not, y)
}

/// `log(1 + x)`, exact for small `x` too: what rounding the sum lost is added to its logarithm (HP-15C Advanced Functions Handbook).
fn log1p(k: &mut Writer, x: Val) -> Val {
    let u = with(k, Op::Add, x, 1.0);
    let y = log(k, u);
    let kept = with(k, Op::Sub, u, 1.0);
    let lost = k.sub(x, kept);
    let part = k.op(Ty::F64, Op::Div, &[lost, u]);
    let sum = k.add(y, part);
    let large = above(k, u, HUGE);
    k.select(large, y, sum)
}

/// Sine or cosine, to 2^-53 absolutely for arguments up to 2^30: a series for what is left of a multiple of `pi / 2`.
fn circular(k: &mut Writer, x: Val, turned: i64) -> Val {
    let n = with(k, Op::Mul, x, std::f64::consts::FRAC_2_PI);
    let n = one(k, Op::Round, n);
    let r = HALF_PI.iter().fold(x, |r, &part| {
        let part = c(k, -part);
        k.fma(n, part, r)
    });
    let quarter = k.op(Ty::S64, Op::Convert(Ty::F64), &[n]);
    let quarter = k.plus(quarter, turned);
    let square = k.mul(r, r);
    let sine = series(k, square, &factorials(1, -1.0, 9));
    let sine = k.mul(sine, r);
    let cosine = series(k, square, &factorials(0, -1.0, 10));
    let bit = |k: &mut Writer, n: i64| {
        let (mask, zero) = (k.int(n, Ty::S64), k.int(0, Ty::S64));
        let bit = k.op(Ty::S64, Op::And, &[quarter, mask]);
        k.compare(Cmp::Eq, bit, zero)
    };
    let (even, upper) = (bit(k, 1), bit(k, 2));
    let y = k.select(even, sine, cosine);
    let minus = one(k, Op::Neg, y);
    k.select(upper, y, minus)
}

/// Arcus tangent: of what is left after turning by a quarter or an eighth.
fn atan(k: &mut Writer, x: Val) -> Val {
    let a = one(k, Op::Abs, x);
    let (minus, unit) = (c(k, -1.0), c(k, 1.0));
    let inverse = k.op(Ty::F64, Op::Div, &[minus, a]);
    let (top, bottom) = (k.sub(a, unit), k.add(a, unit));
    let turned = k.op(Ty::F64, Op::Div, &[top, bottom]);
    let (eighth, zero, quarter) = (c(k, FRAC_PI_4), c(k, 0.0), c(k, FRAC_PI_2));
    let (middle, large) = (above(k, a, std::f64::consts::SQRT_2 - 1.0), above(k, a, std::f64::consts::SQRT_2 + 1.0));
    let y = k.select(middle, turned, a);
    let y = k.select(large, inverse, y);
    let base = k.select(middle, eighth, zero);
    let base = k.select(large, quarter, base);
    let square = k.mul(y, y);
    let coefficients: Vec<f64> = (1..23).map(|n| (-1f64).powi(n) / f64::from(2 * n + 1)).collect();
    let p = series(k, square, &coefficients);
    let p = k.mul(square, p);
    let rest = k.fma(p, y, y);
    let sum = k.add(base, rest);
    let nan = k.compare(Cmp::Nan, x, x);
    let sum = signed_as(k, sum, x);
    k.select(nan, x, sum)
}

/// Hyperbolic sine (`odd`) or cosine.
fn hyperbolic(k: &mut Writer, x: Val, odd: bool) -> Val {
    let a = one(k, Op::Abs, x);
    // By the half argument: e^a may be no number where the result is one.
    let half = with(k, Op::Mul, a, 0.5);
    let e = exp(k, half);
    let scaled = with(k, Op::Mul, e, 0.5);
    let grown = k.mul(scaled, e);
    let square = k.mul(e, e);
    let shrunk = c(k, 0.5);
    let shrunk = k.op(Ty::F64, Op::Div, &[shrunk, square]);
    if !odd {
        return k.add(grown, shrunk);
    }
    let large = k.sub(grown, shrunk);
    let large = signed_as(k, large, x);
    let s = k.mul(x, x);
    let small = series(k, s, &factorials(1, 1.0, 9));
    let small = k.mul(small, x);
    let near = below(k, a, 1.0);
    k.select(near, small, large)
}

fn tanh(k: &mut Writer, x: Val) -> Val {
    let (top, bottom) = (hyperbolic(k, x, true), hyperbolic(k, x, false));
    let small = k.op(Ty::F64, Op::Div, &[top, bottom]);
    let a = one(k, Op::Abs, x);
    let twice = k.add(a, a);
    let e = exp(k, twice);
    let sum = with(k, Op::Add, e, 1.0);
    let two = c(k, 2.0);
    let rest = k.op(Ty::F64, Op::Div, &[two, sum]);
    let unit = c(k, 1.0);
    let large = k.sub(unit, rest);
    let large = signed_as(k, large, x);
    let near = below(k, a, 1.0);
    k.select(near, small, large)
}

/// `log(x) + log 2`, what inverse hyperbolic functions are of huge numbers.
fn log_twice(k: &mut Writer, x: Val) -> Val {
    let y = log(k, x);
    with(k, Op::Add, y, LN_2)
}

fn asinh(k: &mut Writer, x: Val) -> Val {
    let a = one(k, Op::Abs, x);
    let s = k.mul(a, a);
    let root = with(k, Op::Add, s, 1.0);
    let root = one(k, Op::Sqrt, root);
    let bottom = with(k, Op::Add, root, 1.0);
    let part = k.op(Ty::F64, Op::Div, &[s, bottom]);
    let sum = k.add(a, part);
    let y = log1p(k, sum);
    let (far, huge) = (log_twice(k, a), above(k, a, HUGE));
    let y = k.select(huge, far, y);
    signed_as(k, y, x)
}

fn acosh(k: &mut Writer, x: Val) -> Val {
    let (t, over) = (with(k, Op::Sub, x, 1.0), with(k, Op::Add, x, 1.0));
    let product = k.mul(t, over);
    let root = one(k, Op::Sqrt, product);
    let sum = k.add(t, root);
    let y = log1p(k, sum);
    let (far, huge) = (log_twice(k, x), above(k, x, HUGE));
    let y = k.select(huge, far, y);
    let (none, not) = (below(k, x, 1.0), c(k, f64::NAN));
    k.select(none, not, y)
}

fn atanh(k: &mut Writer, x: Val) -> Val {
    let a = one(k, Op::Abs, x);
    let (twice, unit) = (k.add(a, a), c(k, 1.0));
    let bottom = k.sub(unit, a);
    let ratio = k.op(Ty::F64, Op::Div, &[twice, bottom]);
    let y = log1p(k, ratio);
    let y = with(k, Op::Mul, y, 0.5);
    signed_as(k, y, x)
}

/// The error function by a series of positive terms: `e^-x^2 (x + 2/3 x^3 + 4/15 x^5 + ...) 2 / sqrt pi`.
fn erf(k: &mut Writer, x: Val) -> Val {
    let a = one(k, Op::Abs, x);
    let s = k.mul(a, a);
    let twice = k.add(s, s);
    let (term, sum) = (k.variable(a), k.variable(a));
    k.repeat(120, |k, n| {
        let n = k.op(Ty::F64, Op::Convert(Ty::U32), &[n]);
        let (two, three) = (c(k, 2.0), c(k, 3.0));
        let odd = k.fma(n, two, three);
        let factor = k.op(Ty::F64, Op::Div, &[twice, odd]);
        let next = k.mul(term, factor);
        let total = k.add(sum, next);
        k.assign(term, next);
        k.assign(sum, total);
    });
    let minus = one(k, Op::Neg, s);
    let e = exp(k, minus);
    let y = k.mul(sum, e);
    let y = with(k, Op::Mul, y, FRAC_2_SQRT_PI);
    let (far, unit) = (above(k, a, 6.0), c(k, 1.0));
    let y = k.select(far, unit, y);
    signed_as(k, y, x)
}

fn sigmoid(k: &mut Writer, x: Val) -> Val {
    let minus = one(k, Op::Neg, x);
    let e = exp(k, minus);
    let (sum, unit) = (with(k, Op::Add, e, 1.0), c(k, 1.0));
    k.op(Ty::F64, Op::Div, &[unit, sum])
}

/// `x/2 (1 + y)`
fn half_of(k: &mut Writer, x: Val, y: Val) -> Val {
    let (sum, part) = (with(k, Op::Add, y, 1.0), with(k, Op::Mul, x, 0.5));
    k.mul(part, sum)
}

/// A function of one value, if it is one of these.
pub fn unary(k: &mut Writer, u: Unary, x: Val) -> Option<Val> {
    Some(match u {
        Unary::Exp => exp(k, x),
        Unary::Log => log(k, x),
        Unary::Sin => circular(k, x, 0),
        Unary::Cos => circular(k, x, 1),
        Unary::Tan => {
            let (top, bottom) = (circular(k, x, 0), circular(k, x, 1));
            k.op(Ty::F64, Op::Div, &[top, bottom])
        }
        Unary::Asin => {
            let unit = c(k, 1.0);
            let (less, more) = (k.sub(unit, x), k.add(unit, x));
            let product = k.mul(less, more);
            let root = one(k, Op::Sqrt, product);
            let ratio = k.op(Ty::F64, Op::Div, &[x, root]);
            atan(k, ratio)
        }
        Unary::Acos => {
            let unit = c(k, 1.0);
            let (less, more) = (k.sub(unit, x), k.add(unit, x));
            let ratio = k.op(Ty::F64, Op::Div, &[less, more]);
            let root = one(k, Op::Sqrt, ratio);
            let half = atan(k, root);
            k.add(half, half)
        }
        Unary::Atan => atan(k, x),
        Unary::Sinh => hyperbolic(k, x, true),
        Unary::Cosh => hyperbolic(k, x, false),
        Unary::Tanh => tanh(k, x),
        Unary::Asinh => asinh(k, x),
        Unary::Acosh => acosh(k, x),
        Unary::Atanh => atanh(k, x),
        Unary::Erf => erf(k, x),
        Unary::Sigmoid => sigmoid(k, x),
        Unary::Silu => {
            let s = sigmoid(k, x);
            k.mul(x, s)
        }
        Unary::Softplus => {
            // max(x, 0) + log(1 + e^-|x|)
            let a = one(k, Op::Abs, x);
            let minus = one(k, Op::Neg, a);
            let e = exp(k, minus);
            let rest = log1p(k, e);
            let (negative, zero) = (below(k, x, 0.0), c(k, 0.0));
            let most = k.select(negative, zero, x);
            k.add(most, rest)
        }
        Unary::Gelu => {
            let scaled = with(k, Op::Mul, x, std::f64::consts::FRAC_1_SQRT_2);
            let e = erf(k, scaled);
            half_of(k, x, e)
        }
        Unary::GeluTanh => {
            let square = k.mul(x, x);
            let slope = c(k, 0.044_715);
            let unit = c(k, 1.0);
            let inner = k.fma(square, slope, unit);
            let inner = k.mul(inner, x);
            let scaled = with(k, Op::Mul, inner, (2.0 / std::f64::consts::PI).sqrt());
            let t = tanh(k, scaled);
            half_of(k, x, t)
        }
        _ => return None,
    })
}

/// `x^y`, to a relative error of `2^-53 |y log x|`: by the logarithm of the absolute value, with the cases of IEEE 754-2019, section 9.2.
pub fn power(k: &mut Writer, x: Val, y: Val) -> Val {
    let (a, zero, unit) = (one(k, Op::Abs, x), c(k, 0.0), c(k, 1.0));
    let l = log(k, a);
    let product = k.mul(y, l);
    let r = exp(k, product);
    let one_by_any = k.compare(Cmp::Eq, a, unit);
    let infinite = {
        let b = one(k, Op::Abs, y);
        let most = c(k, f64::INFINITY);
        k.compare(Cmp::Eq, b, most)
    };
    let even_there = k.op(Ty::Pred, Op::And, &[one_by_any, infinite]);
    let r = k.select(even_there, unit, r);
    // Of negative numbers only whole powers exist, and odd ones are negative.
    let whole = one(k, Op::Floor, y);
    let whole = k.compare(Cmp::Eq, whole, y);
    let half = with(k, Op::Mul, y, 0.5);
    let down = one(k, Op::Floor, half);
    let rest = k.sub(half, down);
    let odd = above(k, rest, 0.25);
    let odd = k.op(Ty::Pred, Op::And, &[odd, whole]);
    let signed = signed_as(k, r, x);
    let r = k.select(odd, signed, r);
    let (negative, not) = (below(k, x, 0.0), c(k, f64::NAN));
    let kept = k.select(whole, r, not);
    let r = k.select(negative, kept, r);
    let (by_zero, of_one) = (k.compare(Cmp::Eq, y, zero), k.compare(Cmp::Eq, x, unit));
    let always = k.op(Ty::Pred, Op::Or, &[by_zero, of_one]);
    k.select(always, unit, r)
}

/// What a truncated quotient leaves, with the sign of `x`; exact where both were `f32` or the quotient is below 2^52.
pub fn remainder(k: &mut Writer, x: Val, y: Val) -> Val {
    let (a, b) = (one(k, Op::Abs, x), one(k, Op::Abs, y));
    let rest = k.variable(a);
    // Each round takes away all but some 50 bits less of the quotient; of two f32 it has up to 277.
    k.repeat(7, |k, _| {
        let q = k.op(Ty::F64, Op::Div, &[rest, b]);
        let q = with(k, Op::Mul, q, 1.0 - f64::EPSILON);
        let q = one(k, Op::Floor, q);
        let q = one(k, Op::Neg, q);
        let next = k.fma(q, b, rest);
        k.assign(rest, next);
    });
    let less = k.sub(rest, b);
    let again = k.compare(Cmp::Le, b, rest);
    let r = k.select(again, less, rest);
    let r = signed_as(k, r, x);
    let most = c(k, f64::INFINITY);
    let by_all = k.compare(Cmp::Eq, b, most);
    let of_all = k.compare(Cmp::Eq, a, most);
    let not = c(k, f64::NAN);
    let r = k.select(by_all, x, r);
    k.select(of_all, not, r)
}
