//! Elementary functions of sixteen lanes, by fused products, for the ends of large products; [`super::math`] has the others.

use super::simd::Lanes;
use wpk_plan::number::TAIL;

/// `2^r` less one over `r`, for `r` from -1/2 to 1/2, the highest coefficient first: minimax, the power errs by 2e-9.
const POWER: [f64; 6] = [1.535_336_2e-4, 1.339_887_4e-3, 9.618_437e-3, 5.550_332_4e-2, 0.240_226_48, std::f64::consts::LN_2];

#[inline(always)]
unsafe fn polynomial<V: Lanes>(x: V, coefficients: &[f64]) -> V {
    unsafe { coefficients.iter().skip(1).fold(V::splat(coefficients[0] as f32), |p, &c| V::splat(c as f32).mul_add(p, x)) }
}

/// `2^x` for `x` up to 127, within 1e-7 of itself; less than 1.2e-38 for `x` below -126.
#[inline(always)]
pub(super) unsafe fn exp2<V: Lanes>(x: V) -> V {
    const MAGIC: f32 = 12_582_912.0;
    unsafe {
        let one = V::splat(1.0);
        let x = x.clamp(V::splat(-127.0), V::splat(127.0));
        let n = V::splat(-MAGIC).mul_add(V::splat(MAGIC).mul_add(x, one), one);
        let r = x.mul_add(n, V::splat(-1.0));
        one.mul_add(polynomial(r, &POWER), r).times_two_to(n)
    }
}

/// `x/2 (1 + erf(x / sqrt 2))`, which is `max(x, 0)` less what a tail makes of the distance from zero; within 5e-8, or 3e-7 of itself.
#[inline(always)]
pub(super) unsafe fn gelu<V: Lanes>(x: V) -> V {
    unsafe {
        let zero = V::splat(0.0);
        // Beyond, the tail is zero.
        let a = x.abs().clamp(zero, V::splat(64.0));
        let half = exp2(V::splat(-1.0).mul_add(polynomial(a, &TAIL), a));
        let less = zero.mul_add(a, V::splat(-1.0));
        x.clamp(zero, V::splat(f32::INFINITY)).mul_add(less, half)
    }
}

/// `1 / (1 + e^-x)`, within 1e-6 of itself from -20 on.
#[inline(always)]
pub(super) unsafe fn sigmoid<V: Lanes>(x: V) -> V {
    unsafe {
        let one = V::splat(1.0);
        let power = exp2(V::splat(0.0).mul_add(x, V::splat(-std::f32::consts::LOG2_E)));
        one.mul_add(power, one).reciprocal()
    }
}

/// `x / (1 + e^-x)`
#[inline(always)]
pub(super) unsafe fn silu<V: Lanes>(x: V) -> V {
    unsafe { V::splat(0.0).mul_add(x, sigmoid(x)) }
}

/// `x min(max(x/6 + 1/2, 0), 1)`.
#[inline(always)]
pub(super) unsafe fn hard_swish<V: Lanes>(x: V) -> V {
    unsafe {
        let gate = V::splat(0.5).mul_add(x, V::splat(1.0 / 6.0)).clamp(V::splat(0.0), V::splat(1.0));
        V::splat(0.0).mul_add(x, gate)
    }
}

#[cfg(test)]
mod tests {
    use super::Lanes;
    use crate::cpu::isa::lanes;

    type Function = unsafe fn(*const f32, *mut f32);

    fn functions() -> [Function; 4] {
        macro_rules! compiled {
            ($V:ty $(, $feature:literal)?) => {{
                $(#[target_feature(enable = $feature)])?
                unsafe fn exp2(x: *const f32, y: *mut f32) {
                    unsafe { super::exp2(<$V>::load(x)).store(y) }
                }
                $(#[target_feature(enable = $feature)])?
                unsafe fn gelu(x: *const f32, y: *mut f32) {
                    unsafe { super::gelu(<$V>::load(x)).store(y) }
                }
                $(#[target_feature(enable = $feature)])?
                unsafe fn silu(x: *const f32, y: *mut f32) {
                    unsafe { super::silu(<$V>::load(x)).store(y) }
                }
                $(#[target_feature(enable = $feature)])?
                unsafe fn hard_swish(x: *const f32, y: *mut f32) {
                    unsafe { super::hard_swish(<$V>::load(x)).store(y) }
                }
                [exp2, gelu, silu, hard_swish]
            }};
        }
        lanes!(compiled)
    }

    fn apply(f: Function, x: f32) -> f32 {
        let (x, mut y) = ([x; 16], [0.0; 16]);
        unsafe { f(x.as_ptr(), y.as_mut_ptr()) };
        assert!(y.iter().all(|v| v.to_bits() == y[0].to_bits()));
        y[0]
    }

    #[test]
    fn functions_are_accurate() {
        let [exp2, gelu, silu, hard_swish] = functions();
        for i in -126_000..=127_000 {
            let x = i as f32 / 1000.0;
            let (y, exact) = (f64::from(apply(exp2, x)), f64::from(x).exp2());
            assert!((y / exact - 1.0).abs() < 1e-7, "2^{x} = {y}, not {exact}");
        }
        for i in -12_000..=12_000 {
            let x = i as f32 / 1000.0;
            let wide = f64::from(x);
            let exact = 0.5 * wide * (1.0 + wpk_plan::number::erf(wide * std::f64::consts::FRAC_1_SQRT_2));
            let y = f64::from(apply(gelu, x));
            assert!((y - exact).abs() < 5e-8 + 3e-7 * exact.abs(), "gelu({x}) = {y}, not {exact}");
            for (f, exact) in [(silu, wide / (1.0 + (-wide).exp())), (hard_swish, wide * (wide / 6.0 + 0.5).clamp(0.0, 1.0))] {
                let y = f64::from(apply(f, x));
                assert!((y - exact).abs() < 1e-7 + 1e-6 * exact.abs(), "{y} of {x}, not {exact}");
            }
        }
    }

    #[test]
    fn what_is_not_finite() {
        let [exp2, gelu, silu, hard_swish] = functions();
        for f in [silu, hard_swish] {
            assert!(apply(f, f32::NAN).is_nan());
            assert_eq!((apply(f, 0.0), apply(f, 1e30), apply(f, f32::INFINITY)), (0.0, 1e30, f32::INFINITY));
            assert!(apply(f, -1e30).abs() < 1e-7);
        }
        assert_eq!((apply(exp2, 0.0), apply(gelu, 0.0)), (1.0, 0.0));
        assert!(apply(exp2, f32::NEG_INFINITY) < 1.2e-38);
        assert!(apply(exp2, f32::NAN).is_nan() && apply(gelu, f32::NAN).is_nan());
        assert_eq!((apply(gelu, f32::INFINITY), apply(gelu, -1e30).abs() < 1e-30), (f32::INFINITY, true));
    }
}
