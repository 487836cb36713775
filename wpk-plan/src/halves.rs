//! Numbers in `f32` as two binary16 (H. Ootomo, R. Yokota: Recovering single precision accuracy from Tensor Cores while surpassing the FP32
//! theoretical peak performance, 2022): the nearest, and [`RAISED`] times what is left, the nearest of that. They hold 22 bits of numbers from
//! 2^-14 to 65504, and smaller ones to within 2^-36.

use crate::parts::Parts;

/// What second parts are multiplied by, so that they have the range of the first.
pub const RAISED: f32 = 2048.0;

/// What numbers of which this is the largest are multiplied by so that it lies from 2^14 to 2^15, or below where that power of two is no normal
/// number.
pub fn scale(largest: f32) -> f32 {
    let exponent = (largest.to_bits() >> 23) as i32 - 127;
    f32::from_bits(((14 - exponent).min(126) + 127) as u32 * (1 << 23))
}

/// Both parts of numbers. What is infinite as a binary16, or no number, is its own first part, and has no second.
pub fn split(numbers: &[f32; Parts::GROUP]) -> [[u16; Parts::GROUP]; 2] {
    let mut parts = [[0; Parts::GROUP]; 2];
    for (i, &x) in numbers.iter().enumerate() {
        let (bits, nearest) = half(x);
        let left = if nearest.is_finite() { (x - nearest) * RAISED } else { 0.0 };
        (parts[0][i], parts[1][i]) = (bits, half(left).0);
    }
    parts
}

/// The nearest binary16, its bits and its value, without branches, for vectors.
fn half(x: f32) -> (u16, f32) {
    const SMALLEST: u32 = 0x3880_0000;
    let (magnitude, sign) = (x.to_bits() & 0x7fff_ffff, x.to_bits() & 0x8000_0000);
    // A sum with one half has the place of the last bit below 2^-14.
    let small = (f32::from_bits(magnitude) + 0.5).to_bits();
    let normal = magnitude.wrapping_add(0xfff + (magnitude >> 13 & 1)) & !0x1fff;
    let (bits, value) = if magnitude < SMALLEST {
        (small.wrapping_sub(0x3f00_0000), f32::from_bits(small) - 0.5)
    } else {
        ((normal >> 13).wrapping_sub(112 << 10), f32::from_bits(normal))
    };
    let (bits, value) = if bits >= 0x7c00 { (0x7c00, f32::INFINITY) } else { (bits, value) };
    let (bits, value) = if magnitude > 0x7f80_0000 { (0x7e00, f32::NAN) } else { (bits, value) };
    ((bits | sign >> 16) as u16, f32::from_bits(value.to_bits() | sign))
}

/// The number that two parts stand for.
#[cfg(test)]
pub fn sum(parts: [u16; 2]) -> f32 {
    let [first, second] = parts.map(value);
    first + second / RAISED
}

/// The value of a binary16.
#[cfg(test)]
fn value(bits: u16) -> f32 {
    let (exponent, fraction) = (bits >> 10 & 31, f32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * (-24f32).exp2(),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * (f32::from(exponent) - 25.0).exp2(),
    };
    if bits >> 15 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::{half, scale, split, sum, value};
    use crate::parts::Parts;

    #[test]
    fn every_half_is_its_own_nearest() {
        for bits in 0..=u16::MAX {
            let (found, nearest) = half(value(bits));
            let same = found == bits || value(bits).is_nan() && value(found).is_nan();
            assert!(same && (nearest.to_bits() == value(bits).to_bits() || nearest.is_nan()), "{bits:x} {found:x}");
        }
        // Between two of them the nearest, of two the even one.
        for bits in 0..0x7bffu16 {
            let (low, high) = (value(bits), value(bits + 1));
            let (middle, even) = ((low + high) / 2.0, bits + bits % 2);
            let near = [f32::from_bits(middle.to_bits() - 1), middle, f32::from_bits(middle.to_bits() + 1)].map(|x| half(x).0);
            assert_eq!(near, [bits, even, bits + 1], "{bits:x}");
        }
        assert_eq!([65519.0, 65520.0, 1e30].map(|x| half(x).0), [0x7bff, 0x7c00, 0x7c00]);
    }

    #[test]
    fn two_parts_hold_22_bits() {
        let numbers = (0..100_000u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9) & 0x8fff_ffff | 0x3000_0000));
        for x in numbers.filter(|x| x.abs() < 65504.0).chain([0.0, -0.0, 1e-20, -1e-12]) {
            let found = sum(split(&[x; Parts::GROUP]).map(|part| part[3]));
            assert!((found - x).abs() <= (x.abs() * (-22f32).exp2()).max((-36f32).exp2()), "{x:e} {found:e}");
        }
        for x in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let found = sum(split(&[x; Parts::GROUP]).map(|part| part[3]));
            assert!(found == x || x.is_nan() && found.is_nan());
        }
    }

    #[test]
    fn scaled_numbers_fit() {
        for x in [f32::MIN_POSITIVE, 1e-30, 0.1, 1.0, 3.0, 1e30, f32::MAX] {
            let scaled = x * scale(x);
            assert!((1f32..32768.0).contains(&scaled) && scale(x).is_normal() && (1.0 / scale(x)).is_normal(), "{x:e} {scaled}");
        }
        assert!(scale(0.0).is_normal());
    }
}
