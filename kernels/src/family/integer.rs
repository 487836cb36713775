//! Integers in the DSL: narrow types in wider registers.

use super::scalar::convert;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Op, Ty};
use wpk_plan::{Binary, DType};

/// Brings an integer back into the range of a narrow type.
pub fn wrap(k: &mut Writer, v: Val, t: DType) -> Val {
    let (bits, signed) = match t {
        DType::I8 => (24, true),
        DType::U8 => (24, false),
        DType::I4 => (28, true),
        DType::U4 => (28, false),
        DType::I2 => (30, true),
        DType::U2 => (30, false),
        DType::I16 => (16, true),
        DType::U16 => (16, false),
        _ => return v,
    };
    let shift = k.int(bits, Ty::U32);
    let up = k.op(v.ty, Op::Shl, &[v, shift]);
    let down = k.op(if signed { Ty::S32 } else { Ty::U32 }, Op::Shr, &[up, shift]);
    Val { ty: v.ty, ..down }
}

/// A quotient or remainder of integers; zero where the divisor is.
pub fn quotient(k: &mut Writer, b: Binary, x: Val, y: Val) -> Val {
    let (zero, one) = (k.int(0, x.ty), k.int(1, x.ty));
    let none = k.compare(Cmp::Eq, y, zero);
    let divisor = k.select(none, one, y);
    let quotient = k.op(x.ty, Op::Div, &[x, divisor]);
    if b == Binary::Div {
        return k.select(none, zero, quotient);
    }
    // By one, in place of zero, the remainder is zero.
    let multiple = k.mul(quotient, divisor);
    let rest = k.sub(x, multiple);
    if b == Binary::Rem {
        return rest;
    }
    // The remainder of a rounded down quotient has the divisor's sign.
    let moved = k.add(rest, divisor);
    let (below, positive) = (k.compare(Cmp::Lt, rest, zero), k.compare(Cmp::Lt, zero, divisor));
    let (above, negative) = (k.compare(Cmp::Lt, zero, rest), k.compare(Cmp::Lt, divisor, zero));
    let rest = {
        let wrong = k.op(Ty::Pred, Op::And, &[below, positive]);
        k.select(wrong, moved, rest)
    };
    let wrong = k.op(Ty::Pred, Op::And, &[above, negative]);
    k.select(wrong, moved, rest)
}

/// Integers to the power of others by squaring; a negative power of what is neither 1 nor -1 is zero.
pub fn power(k: &mut Writer, x: Val, y: Val) -> Val {
    let (zero, one, minus, two) = (k.int(0, x.ty), k.int(1, x.ty), k.int(-1, x.ty), k.int(2, x.ty));
    let bit = k.op(y.ty, Op::And, &[y, one]);
    let [base, result, rest] = [x, one, y].map(|v| k.variable(v));
    k.repeat(if matches!(x.ty, Ty::S64 | Ty::U64) { 64 } else { 32 }, |k, _| {
        let last = k.op(y.ty, Op::And, &[rest, one]);
        let taken = k.compare(Cmp::Eq, last, one);
        let product = k.mul(result, base);
        let next = k.select(taken, product, result);
        k.assign(result, next);
        let square = k.mul(base, base);
        k.assign(base, square);
        let shift = k.int(1, Ty::U32);
        let fewer = k.op(y.ty, Op::Shr, &[rest, shift]);
        k.assign(rest, fewer);
    });
    let negative = k.compare(Cmp::Lt, y, zero);
    let (is_one, is_minus) = (k.compare(Cmp::Eq, x, one), k.compare(Cmp::Eq, x, minus));
    // 1 or -1, as the power is even or odd.
    let twice = k.mul(bit, two);
    let sign = k.sub(one, twice);
    let fraction = k.select(is_minus, sign, zero);
    let fraction = k.select(is_one, one, fraction);
    k.select(negative, fraction, result)
}

/// A shift of the bits; by their number or more, or by less than none, it leaves none.
pub fn shifted(k: &mut Writer, b: Binary, x: Val, y: Val, t: DType) -> Val {
    let wide = matches!(x.ty, Ty::S64 | Ty::U64);
    let unsigned = if wide { Ty::U64 } else { Ty::U32 };
    let count = Val { ty: unsigned, ..y };
    let limit = k.int(if wide { 64 } else { 32 }, unsigned);
    let inside = k.compare(Cmp::Lt, count, limit);
    let amount = convert(k, count, Ty::U32);
    // Signed ones shift their own bits, without the copies of the sign that fill a register.
    let bits = match t.bytes() {
        1 | 2 if b == Binary::Shr => {
            let mask = k.int((1i64 << (8 * t.bytes())) - 1, x.ty);
            k.op(x.ty, Op::And, &[x, mask])
        }
        _ => x,
    };
    let y = k.op(unsigned, if b == Binary::Shl { Op::Shl } else { Op::Shr }, &[Val { ty: unsigned, ..bits }, amount]);
    let zero = k.int(0, unsigned);
    let y = k.select(inside, y, zero);
    Val { ty: x.ty, ..y }
}
