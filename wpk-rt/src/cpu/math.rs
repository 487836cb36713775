//! Elementary functions of `f32` without branches, so that loops over them vectorize. Errors are within 2 to 4 ulp unless
//! stated.

/// `e^x`: 2^n times a polynomial of the remainder (minimax of degree 6 on +-ln2/2), below -87.3 zero.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    let c = if x > 88.73 { 88.73 } else { x };
    let c = if c < -87.3 { -87.3 } else { c };
    let z = c * std::f32::consts::LOG2_E + MAGIC;
    let n = z - MAGIC;
    let r = c - n * 0.693_359_4;
    let r = r - n * -2.121_944_4e-4;
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = (p * r) * r + r + 1.0;
    // 2^128 is no number: near the top the last doubling is a product of its own.
    let (less, last) = if x > 88.0 { (1, 2.0) } else { (0, 1.0) };
    let y = p * f32::from_bits((z.to_bits().wrapping_sub(less) << 23).wrapping_add(127 << 23)) * last;
    let y = if x > 88.722_84 { f32::INFINITY } else { y };
    if x < -87.3 { 0.0 } else { y }
}

/// The error function: a Taylor polynomial below 1/2, else formula 7.1.26 of Abramowitz and Stegun (error 1.5e-7).
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let a = x.abs();
    let s = x * x;
    let small = x
        * (std::f32::consts::FRAC_2_SQRT_PI
            + s * (-0.376_126_4 + s * (0.112_837_92 + s * (-0.026_866_17 + s * (0.005_223_977_6 - s * 0.000_854_832_7)))));
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let large = (1.0 - p * exp(-s)).copysign(x);
    if a < 0.5 { small } else { large }
}

/// Hyperbolic tangent: a Taylor polynomial below 0.3, else by the exponential.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let s = x * x;
    let small = x * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 + s * (-17.0 / 315.0 + s * (62.0 / 2835.0)))));
    let e = exp(-2.0 * a);
    let large = ((1.0 - e) / (1.0 + e)).copysign(x);
    if a < 0.3 { small } else { large }
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x/2 (1 + erf(x / sqrt 2))`
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// GELU by its tanh approximation.
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh(0.797_884_6 * (x + 0.044_715 * x * x * x)))
}

/// Natural logarithm: exponent and a polynomial in (m-1)/(m+1) of the mantissa.
#[inline(always)]
pub(crate) fn log(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let y = if tiny { x * 16_777_216.0 } else { x };
    let bits = y.to_bits();
    // The mantissa in [sqrt(1/2), sqrt 2).
    let shifted = bits.wrapping_sub(0x3f35_04f3);
    let e = (shifted as i32 >> 23) as f32 - if tiny { 24.0 } else { 0.0 };
    let m = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(0x3f35_04f3));
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let p = 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0)))));
    let y = e * std::f32::consts::LN_2 + p;
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x < 0.0 || x.is_nan() { f32::NAN } else { y }
}

#[cfg(test)]
mod tests {
    fn check(name: &str, f: fn(f32) -> f32, exact: fn(f64) -> f64, range: (f32, f32), relative: f64, absolute: f64) {
        for i in 0..=20_000 {
            let x = range.0 + (range.1 - range.0) * i as f32 / 20_000.0;
            let (y, e) = (f64::from(f(x)), exact(f64::from(x)));
            assert!((y - e).abs() <= relative * e.abs() + absolute, "{name}({x}) = {y} instead of {e}");
        }
    }

    #[test]
    fn functions_are_accurate() {
        check("exp", super::exp, f64::exp, (-87.0, 88.7), 5e-7, 0.0);
        check("log", super::log, f64::ln, (1e-6, 50.0), 5e-7, 5e-8);
        check("tanh", super::tanh, f64::tanh, (-9.0, 9.0), 1e-6, 0.0);
        check("sigmoid", super::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), (-80.0, 80.0), 1e-6, 0.0);
        check("erf", super::erf, wpk_erf, (-5.0, 5.0), 1e-6, 2e-7);
    }

    /// The error function by Simpson's rule.
    fn wpk_erf(x: f64) -> f64 {
        let n = 400;
        let h = x / f64::from(n);
        let g = |i: i32| (-(f64::from(i) * h).powi(2)).exp();
        let inner: f64 = (1..n).map(|i| g(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
        std::f64::consts::FRAC_2_SQRT_PI * h / 3.0 * (g(0) + inner + g(n))
    }

    #[test]
    fn special_values() {
        assert_eq!(super::exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(super::exp(f32::NEG_INFINITY), 0.0);
        assert!(super::exp(f32::NAN).is_nan() && super::tanh(f32::NAN).is_nan() && super::log(-1.0).is_nan());
        assert_eq!(super::log(0.0), f32::NEG_INFINITY);
        assert_eq!(super::tanh(100.0), 1.0);
    }
}
