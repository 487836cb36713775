//! Exact functions of single numbers that the evaluator and the CPU runtime share.

/// The error function: a Taylor series near zero, else a continued fraction (Abramowitz and Stegun 7.1.6 and 7.1.14).
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term.abs() > 1e-17 * sum {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        return (sum * (-a * a).exp() * std::f64::consts::FRAC_2_SQRT_PI).copysign(x);
    }
    if a.is_nan() {
        return x;
    }
    if a > 6.0 {
        return 1f64.copysign(x);
    }
    let fraction = (1..=60).rev().fold(a, |f, k| a + f64::from(k) / 2.0 / f);
    (1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())).copysign(x)
}

/// Base-2 logarithm of `erfc(a / sqrt 2)` over `a`, for `a` from 0 to 6.5, the highest coefficient first; fitted so that the largest error of its
/// power, weighted by the power's root, is least: `a erfc(a / sqrt 2) / 2`, which GELU is less than `max(x, 0)`, errs by 3.5e-8.
pub const TAIL: [f64; 10] = [
    -1.736_713_9e-8,
    5.703_717_4e-7,
    -7.946_443e-6,
    5.936e-5,
    -2.228_195_6e-4,
    -1.131_007e-4,
    7.078_378e-3,
    -5.252_463e-2,
    -4.591_959e-1,
    -1.151_106_7,
];

/// A number rounded to the 11 significant bits of TF32, to nearest with ties away from zero, as `cvt.rna.tf32.f32` does.
pub fn tf32(x: f32) -> f32 {
    if x.is_finite() { f32::from_bits(x.to_bits().wrapping_add(0x1000) & !0x1fff) } else { x }
}

/// The same to nearest with ties to even, as the copy engine does.
pub fn tf32_even(x: f32) -> f32 {
    let bits = x.to_bits();
    if x.is_finite() { f32::from_bits((bits + 0xfff + (bits >> 13 & 1)) & !0x1fff) } else { x }
}

/// A number as the bits of a bfloat16, to nearest even; what is not a number stays so.
pub fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// `x` to the power of `y`, wrapping; 0 for the fraction that a negative power is.
pub fn power(x: i64, y: i64) -> i64 {
    match (x, u64::try_from(y)) {
        (_, Ok(mut n)) => {
            let (mut base, mut result) = (x, 1i64);
            while n > 0 {
                if n & 1 == 1 {
                    result = result.wrapping_mul(base);
                }
                base = base.wrapping_mul(base);
                n >>= 1;
            }
            result
        }
        (1, _) => 1,
        (-1, _) => 1 - 2 * (y & 1),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{erf, power, tf32, tf32_even};

    #[test]
    fn erf_agrees_with_tables() {
        let table = [
            (0.0, 0.0),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.5, 0.999_593_047_982_555),
            (-3.0, -0.999_977_909_503_001_4),
        ];
        for (x, y) in table {
            assert!((erf(x) - y).abs() < 1e-14, "erf({x}) = {} instead of {y}", erf(x));
        }
    }

    #[test]
    fn eleven_bits() {
        // Below, at and above the middle between two; at the end of a power of two; what is not finite.
        let cases = [
            (0x3f80_0fff, 0x3f80_0000, 0x3f80_0000),
            (0x3f80_1000, 0x3f80_0000, 0x3f80_2000),
            (0x3f80_1001, 0x3f80_2000, 0x3f80_2000),
            (0xbf80_3000, 0xbf80_4000, 0xbf80_4000),
            (0x3fff_f000, 0x4000_0000, 0x4000_0000),
            (0x7f80_0000, 0x7f80_0000, 0x7f80_0000),
        ];
        for (x, even, away) in cases {
            assert_eq!([tf32_even, tf32].map(|f| f(f32::from_bits(x)).to_bits()), [even, away], "{x:x}");
        }
        assert!(tf32_even(f32::NAN).is_nan());
    }

    #[test]
    fn powers_of_integers() {
        for (x, y, z) in [(2, 10, 1024), (-3, 3, -27), (7, 0, 1), (0, 0, 1), (2, -1, 0), (-1, -3, -1), (-1, -4, 1), (1, -9, 1)] {
            assert_eq!(power(x, y), z, "{x}^{y}");
        }
    }
}
