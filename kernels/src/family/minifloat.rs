//! Floating types of at most eight bits: computed with in `f32`, which holds every number of theirs.

use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Op, Ty};
use wpk_plan::minifloat::{Format, Special};

/// Bits as an `f32`.
fn float(k: &mut Writer, bits: Val) -> Val {
    k.op(Ty::F32, Op::Bits(Ty::S32), &[bits])
}

fn shift(k: &mut Writer, op: Op, x: Val, by: u32) -> Val {
    let by = k.int(i64::from(by), Ty::U32);
    k.op(Ty::S32, op, &[x, by])
}

fn and(k: &mut Writer, x: Val, mask: i64) -> Val {
    let mask = k.int(mask, Ty::S32);
    k.op(Ty::S32, Op::And, &[x, mask])
}

/// `yes` where an integer is above a limit.
fn where_above(k: &mut Writer, x: Val, limit: i64, yes: Val, no: Val) -> Val {
    let limit = k.int(limit, Ty::S32);
    let p = k.compare(Cmp::Lt, limit, x);
    k.select(p, yes, no)
}

/// The number that loaded bits stand for.
pub fn decode(k: &mut Writer, format: Format, bits: Val) -> Val {
    let (sign, ones) = (i64::from(format.sign()), i64::from(format.ones()));
    let magnitude = and(k, bits, ones);
    // In the place of an f32's exponent and fraction, where the exponent has another bias.
    let placed = shift(k, Op::Shl, magnitude, 23 - format.fraction);
    let y = if format.subnormal() {
        let placed = float(k, placed);
        let scale = k.float(2f64.powi(127 - format.bias), Ty::F32);
        k.mul(placed, scale)
    } else {
        let least = k.int(0x0040_0000, Ty::S32);
        let bits = where_above(k, magnitude, 0, placed, least);
        float(k, bits)
    };
    let (infinity, nan) = (k.float(f64::INFINITY, Ty::F32), k.float(f64::NAN, Ty::F32));
    let y = match format.special {
        Special::Ieee => {
            let y = where_above(k, magnitude, i64::from(format.largest()), infinity, y);
            where_above(k, magnitude, i64::from(format.largest()) + 1, nan, y)
        }
        Special::Ones => where_above(k, magnitude, ones - 1, nan, y),
        Special::NegativeZero | Special::Nothing => y,
    };
    if sign == 0 {
        return y;
    }
    let negative = and(k, bits, sign);
    let negative = shift(k, Op::Shl, negative, 31 - sign.trailing_zeros());
    let plain = k.op(Ty::S32, Op::Bits(Ty::F32), &[y]);
    let signed = k.op(Ty::S32, Op::Or, &[plain, negative]);
    let y = float(k, signed);
    if format.special != Special::NegativeZero {
        return y;
    }
    let all = and(k, bits, sign | ones);
    let zero = k.int(sign, Ty::S32);
    let none = k.compare(Cmp::Eq, all, zero);
    k.select(none, nan, y)
}

/// The bits of the nearest number, as [`Format::encode`] chooses it.
pub fn encode(k: &mut Writer, format: Format, x: Val) -> Val {
    let (sign, ones, largest) = (i64::from(format.sign()), i64::from(format.ones()), i64::from(format.largest()));
    let plain = k.op(Ty::S32, Op::Bits(Ty::F32), &[x]);
    let magnitude = and(k, plain, 0x7fff_ffff);
    let v = if format.subnormal() { nearest(k, format, magnitude) } else { next_power(k, magnitude) };
    let [sign_bit, ones_bits, most, infinite] = [sign, ones, largest, largest + 1].map(|n| k.int(n, Ty::S32));
    let beyond = match format.special {
        Special::Ieee => infinite,
        Special::Ones => ones_bits,
        Special::NegativeZero => sign_bit,
        Special::Nothing => most,
    };
    let kept = where_above(k, v, largest, beyond, v);
    let nan = k.compare(Cmp::Nan, x, x);
    let none = if matches!(format.special, Special::Ieee | Special::Ones) { ones_bits } else { sign_bit };
    let kept = k.select(nan, none, kept);
    if sign == 0 {
        return kept;
    }
    let top = shift(k, Op::Shr, plain, 31);
    let negative = and(k, top, sign);
    let signed = k.op(Ty::S32, Op::Or, &[kept, negative]);
    match format.special {
        // Zero has no sign there.
        Special::NegativeZero => where_above(k, kept, 0, signed, kept),
        Special::Nothing => k.select(nan, sign_bit, signed),
        _ => signed,
    }
}

/// Bits of the nearest number, of two the even one; above the largest where that is too small. The exponent gives the distance of neighbours,
/// and how many of them a number is from zero is rounded.
fn nearest(k: &mut Writer, format: Format, magnitude: Val) -> Val {
    // As far beyond every format as infinity.
    let most = k.int(i64::from(1e30f32.to_bits()), Ty::S32);
    let magnitude = k.op(Ty::S32, Op::Min, &[magnitude, most]);
    let exponent = shift(k, Op::Shr, magnitude, 23);
    let least = k.int(i64::from(128 - format.bias), Ty::S32);
    let exponent = k.op(Ty::S32, Op::Max, &[exponent, least]);
    let neighbours = k.int(i64::from(254 + format.fraction), Ty::S32);
    let scale = k.sub(neighbours, exponent);
    let scale = shift(k, Op::Shl, scale, 23);
    let (scale, x) = (float(k, scale), float(k, magnitude));
    let count = k.mul(x, scale);
    let count = k.op(Ty::F32, Op::Round, &[count]);
    let count = k.op(Ty::S32, Op::Convert(Ty::F32), &[count]);
    // The lowest exponent counts from zero, each further one from its leading one.
    let steps = k.plus(exponent, i64::from(format.bias - 128));
    let steps = shift(k, Op::Shl, steps, format.fraction);
    k.add(steps, count)
}

/// The exponent of the next power of two that is not below.
fn next_power(k: &mut Writer, magnitude: Val) -> Val {
    let up = k.plus(magnitude, 0x007f_ffff);
    let exponent = shift(k, Op::Shr, up, 23);
    let exponent = and(k, exponent, 0xff);
    let zero = k.int(0, Ty::S32);
    where_above(k, magnitude, 0x0040_0000, exponent, zero)
}
