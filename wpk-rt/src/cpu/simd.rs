//! Sixteen floats at once, in as many registers as the instruction set needs.

/// A group of sixteen `f32` and the operations the matrix kernel needs.
///
/// # Safety
/// Callers run on a machine that has the instruction set, in a function compiled for it.
pub(crate) trait Lanes: Copy {
    unsafe fn load(p: *const f32) -> Self;
    /// Sixteen signed bytes, converted.
    unsafe fn load_bytes(p: *const i8) -> Self;
    /// Sixteen numbers of binary16, converted.
    unsafe fn load_halves(p: *const u16) -> Self;
    /// Sixteen signed bytes, eight and eight.
    unsafe fn bytes(first: u64, last: u64) -> Self;
    /// The sums of sixteen integers and others, which wrap around, converted.
    #[inline(always)]
    unsafe fn sums(p: *const i32, q: *const i32) -> Self {
        let [p, q] = [p, q].map(|p| unsafe { p.cast::<[i32; 16]>().read_unaligned() });
        let all: [f32; 16] = std::array::from_fn(|i| p[i].wrapping_add(q[i]) as f32);
        unsafe { Self::load(all.as_ptr()) }
    }
    unsafe fn store(self, p: *mut f32);
    /// The lowest byte of each one's bits.
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8) {
        let mut all = [0.0f32; 16];
        unsafe {
            self.store(all.as_mut_ptr());
            p.cast::<[u8; 16]>().write_unaligned(all.map(|x| x.to_bits() as u8));
        }
    }
    /// The first `n` of them, then zeros.
    #[inline(always)]
    unsafe fn load_some(p: *const f32, n: usize) -> Self {
        let mut all = [0.0; 16];
        unsafe {
            std::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), n);
            Self::load(all.as_ptr())
        }
    }
    /// The first `n` of them.
    #[inline(always)]
    unsafe fn store_some(self, p: *mut f32, n: usize) {
        let mut all = [0.0; 16];
        unsafe {
            self.store(all.as_mut_ptr());
            std::ptr::copy_nonoverlapping(all.as_ptr(), p, n);
        }
    }
    /// As integers, which the floats must be.
    unsafe fn store_whole(self, p: *mut i32);
    unsafe fn splat(x: f32) -> Self;
    /// `self + x * y`
    unsafe fn mul_add(self, x: Self, y: Self) -> Self;
    /// Between two bounds; what is no number stays so.
    unsafe fn clamp(self, low: Self, high: Self) -> Self;
    /// Between two bounds; what is no number is the lower one.
    unsafe fn bounded(self, low: Self, high: Self) -> Self;
    /// The greater; what is no number is greater than all.
    unsafe fn greater(self, other: Self) -> Self;
    /// Without signs.
    unsafe fn abs(self) -> Self;
    /// Numbers from 1/2 to 2 times `2^n` for whole `n` from -127, where it may be zero, to 127.
    unsafe fn times_two_to(self, n: Self) -> Self;
    /// `1/x` within 2e-7 of itself, for numbers from 1 on; less than 1.2e-38 for those from `2^126` on.
    unsafe fn reciprocal(self) -> Self;
}

/// A finite number of binary16: its bits at the place of an `f32`'s, whose exponent has another bias.
#[inline(always)]
fn half(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | sign)
}

/// Plain arrays, which the compiler vectorizes as it can.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; 16]);

impl Lanes for Plain {
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(unsafe { p.cast::<[f32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const i8) -> Self {
        Self(unsafe { p.cast::<[i8; 16]>().read_unaligned() }.map(f32::from))
    }
    #[inline(always)]
    unsafe fn load_halves(p: *const u16) -> Self {
        Self(unsafe { p.cast::<[u16; 16]>().read_unaligned() }.map(half))
    }
    #[inline(always)]
    unsafe fn bytes(first: u64, last: u64) -> Self {
        let all = u128::from(first) | u128::from(last) << 64;
        Self(all.to_le_bytes().map(|b| f32::from(b as i8)))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { p.cast::<[f32; 16]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn store_whole(self, p: *mut i32) {
        unsafe { p.cast::<[i32; 16]>().write_unaligned(self.0.map(|x| x as i32)) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 16])
    }
    #[inline(always)]
    unsafe fn mul_add(mut self, x: Self, y: Self) -> Self {
        for i in 0..16 {
            self.0[i] += x.0[i] * y.0[i];
        }
        self
    }
    #[inline(always)]
    unsafe fn clamp(mut self, low: Self, high: Self) -> Self {
        for i in 0..16 {
            let x = if self.0[i] < low.0[i] { low.0[i] } else { self.0[i] };
            self.0[i] = if x > high.0[i] { high.0[i] } else { x };
        }
        self
    }
    #[inline(always)]
    unsafe fn bounded(mut self, low: Self, high: Self) -> Self {
        for i in 0..16 {
            let x = if self.0[i] > low.0[i] { self.0[i] } else { low.0[i] };
            self.0[i] = if x < high.0[i] { x } else { high.0[i] };
        }
        self
    }
    #[inline(always)]
    unsafe fn greater(mut self, other: Self) -> Self {
        for i in 0..16 {
            let x = other.0[i];
            self.0[i] = if x > self.0[i] || x.is_nan() { x } else { self.0[i] };
        }
        self
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }
    #[inline(always)]
    unsafe fn times_two_to(mut self, n: Self) -> Self {
        for i in 0..16 {
            self.0[i] *= f32::from_bits((((n.0[i] as i32) + 127) << 23) as u32);
        }
        self
    }
    #[inline(always)]
    unsafe fn reciprocal(mut self) -> Self {
        for x in &mut self.0 {
            *x = 1.0 / *x;
        }
        self
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use super::Lanes;
    use std::arch::x86_64::{
        __m256, __m512, _CMP_UNORD_Q, _mm_loadl_epi64, _mm_loadu_si128, _mm_set_epi64x, _mm_storeu_si128, _mm256_add_epi32,
        _mm256_andnot_ps, _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtph_ps,
        _mm256_cvtps_epi32, _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_max_ps, _mm256_min_ps,
        _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_storeu_si256, _mm512_abs_ps,
        _mm512_add_epi32, _mm512_castps_si512, _mm512_cmp_ps_mask, _mm512_cvtepi8_epi32, _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps,
        _mm512_cvtph_ps, _mm512_cvtps_epi32, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_mov_ps,
        _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_rcp14_ps, _mm512_scalef_ps, _mm512_set1_ps,
        _mm512_storeu_ps, _mm512_storeu_si512,
    };

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(pub(crate) __m512);

    impl Lanes for Avx512 {
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(p) })
        }
        #[inline(always)]
        unsafe fn load_some(p: *const f32, n: usize) -> Self {
            Self(unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as u16, p) })
        }
        #[inline(always)]
        unsafe fn store_some(self, p: *mut f32, n: usize) {
            unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as u16, self.0) }
        }
        #[inline(always)]
        unsafe fn load_bytes(p: *const i8) -> Self {
            Self(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) })
        }
        #[inline(always)]
        unsafe fn load_halves(p: *const u16) -> Self {
            Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) })
        }
        #[inline(always)]
        unsafe fn bytes(first: u64, last: u64) -> Self {
            Self(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_set_epi64x(last as i64, first as i64))) })
        }
        #[inline(always)]
        unsafe fn sums(p: *const i32, q: *const i32) -> Self {
            let [p, q] = [p, q].map(|p| unsafe { _mm512_loadu_si512(p.cast()) });
            Self(unsafe { _mm512_cvtepi32_ps(_mm512_add_epi32(p, q)) })
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            unsafe { _mm512_storeu_ps(p, self.0) }
        }
        #[inline(always)]
        unsafe fn store_bytes(self, p: *mut u8) {
            unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(_mm512_castps_si512(self.0))) }
        }
        #[inline(always)]
        unsafe fn store_whole(self, p: *mut i32) {
            unsafe { _mm512_storeu_si512(p.cast(), _mm512_cvtps_epi32(self.0)) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(x) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, x: Self, y: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(x.0, y.0, self.0) })
        }
        #[inline(always)]
        unsafe fn clamp(self, low: Self, high: Self) -> Self {
            // The second operand is the result where one is no number.
            Self(unsafe { _mm512_min_ps(high.0, _mm512_max_ps(low.0, self.0)) })
        }
        #[inline(always)]
        unsafe fn bounded(self, low: Self, high: Self) -> Self {
            Self(unsafe { _mm512_min_ps(_mm512_max_ps(self.0, low.0), high.0) })
        }
        #[inline(always)]
        unsafe fn greater(self, other: Self) -> Self {
            unsafe {
                let unordered = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(other.0, other.0);
                Self(_mm512_mask_mov_ps(_mm512_max_ps(other.0, self.0), unordered, other.0))
            }
        }
        #[inline(always)]
        unsafe fn abs(self) -> Self {
            Self(unsafe { _mm512_abs_ps(self.0) })
        }
        #[inline(always)]
        unsafe fn times_two_to(self, n: Self) -> Self {
            Self(unsafe { _mm512_scalef_ps(self.0, n.0) })
        }
        #[inline(always)]
        unsafe fn reciprocal(self) -> Self {
            // An estimate of 14 bits, and one step of Newton's.
            unsafe {
                let estimate = _mm512_rcp14_ps(self.0);
                let rest = _mm512_fnmadd_ps(self.0, estimate, _mm512_set1_ps(1.0));
                Self(_mm512_fmadd_ps(estimate, rest, estimate))
            }
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256, __m256);

    impl Lanes for Avx2 {
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
        }
        #[inline(always)]
        unsafe fn load_bytes(p: *const i8) -> Self {
            let eight = |p: *const i8| unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) };
            Self(eight(p), eight(p.wrapping_add(8)))
        }
        #[inline(always)]
        unsafe fn load_halves(p: *const u16) -> Self {
            let eight = |p: *const u16| unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) };
            Self(eight(p), eight(p.wrapping_add(8)))
        }
        #[inline(always)]
        unsafe fn bytes(first: u64, last: u64) -> Self {
            let eight = |x: u64| unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_set_epi64x(0, x as i64))) };
            Self(eight(first), eight(last))
        }
        #[inline(always)]
        unsafe fn sums(p: *const i32, q: *const i32) -> Self {
            let eight = |at: usize| unsafe {
                let [p, q] = [p, q].map(|p| _mm256_loadu_si256(p.wrapping_add(at).cast()));
                _mm256_cvtepi32_ps(_mm256_add_epi32(p, q))
            };
            Self(eight(0), eight(8))
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            unsafe {
                _mm256_storeu_ps(p, self.0);
                _mm256_storeu_ps(p.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn store_whole(self, p: *mut i32) {
            unsafe {
                _mm256_storeu_si256(p.cast(), _mm256_cvtps_epi32(self.0));
                _mm256_storeu_si256(p.add(8).cast(), _mm256_cvtps_epi32(self.1));
            }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            let v = unsafe { _mm256_set1_ps(x) };
            Self(v, v)
        }
        #[inline(always)]
        unsafe fn mul_add(self, x: Self, y: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(x.0, y.0, self.0), _mm256_fmadd_ps(x.1, y.1, self.1)) }
        }
        #[inline(always)]
        unsafe fn clamp(self, low: Self, high: Self) -> Self {
            let one = |x, low, high| unsafe { _mm256_min_ps(high, _mm256_max_ps(low, x)) };
            Self(one(self.0, low.0, high.0), one(self.1, low.1, high.1))
        }
        #[inline(always)]
        unsafe fn bounded(self, low: Self, high: Self) -> Self {
            let one = |x, low, high| unsafe { _mm256_min_ps(_mm256_max_ps(x, low), high) };
            Self(one(self.0, low.0, high.0), one(self.1, low.1, high.1))
        }
        #[inline(always)]
        unsafe fn greater(self, other: Self) -> Self {
            let one = |x, y| unsafe { _mm256_blendv_ps(_mm256_max_ps(y, x), y, _mm256_cmp_ps::<_CMP_UNORD_Q>(y, y)) };
            Self(one(self.0, other.0), one(self.1, other.1))
        }
        #[inline(always)]
        unsafe fn abs(self) -> Self {
            let one = |x| unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), x) };
            Self(one(self.0), one(self.1))
        }
        #[inline(always)]
        unsafe fn times_two_to(self, n: Self) -> Self {
            let power = |n| unsafe { _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127))) };
            let one = |x, n| unsafe { _mm256_mul_ps(x, _mm256_castsi256_ps(power(n))) };
            Self(one(self.0, n.0), one(self.1, n.1))
        }
        #[inline(always)]
        unsafe fn reciprocal(self) -> Self {
            let one = |x| unsafe { _mm256_div_ps(_mm256_set1_ps(1.0), x) };
            Self(one(self.0), one(self.1))
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(crate) mod arm {
    use super::Lanes;
    use std::arch::aarch64::{
        float32x4_t, vabsq_f32, vaddq_s32, vcvtq_s32_f32, vdivq_f32, vdupq_n_f32, vdupq_n_s32, vfmaq_f32, vld1q_f32, vmaxnmq_f32,
        vmaxq_f32, vminq_f32, vmulq_f32, vreinterpretq_f32_s32, vshlq_n_s32, vst1q_f32, vst1q_s32,
    };

    #[derive(Clone, Copy)]
    pub(crate) struct Neon([float32x4_t; 4]);

    impl Lanes for Neon {
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            unsafe { Self([vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))]) }
        }
        #[inline(always)]
        unsafe fn load_bytes(p: *const i8) -> Self {
            let floats = unsafe { p.cast::<[i8; 16]>().read_unaligned() }.map(f32::from);
            unsafe { Self::load(floats.as_ptr()) }
        }
        #[inline(always)]
        unsafe fn load_halves(p: *const u16) -> Self {
            let floats = unsafe { p.cast::<[u16; 16]>().read_unaligned() }.map(super::half);
            unsafe { Self::load(floats.as_ptr()) }
        }
        #[inline(always)]
        unsafe fn bytes(first: u64, last: u64) -> Self {
            let all = (u128::from(first) | u128::from(last) << 64).to_le_bytes();
            unsafe { Self::load_bytes(all.as_ptr().cast()) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            for (i, v) in self.0.into_iter().enumerate() {
                unsafe { vst1q_f32(p.add(4 * i), v) }
            }
        }
        #[inline(always)]
        unsafe fn store_whole(self, p: *mut i32) {
            for (i, v) in self.0.into_iter().enumerate() {
                unsafe { vst1q_s32(p.add(4 * i), vcvtq_s32_f32(v)) }
            }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            Self([unsafe { vdupq_n_f32(x) }; 4])
        }
        #[inline(always)]
        unsafe fn mul_add(mut self, x: Self, y: Self) -> Self {
            for i in 0..4 {
                self.0[i] = unsafe { vfmaq_f32(self.0[i], x.0[i], y.0[i]) };
            }
            self
        }
        #[inline(always)]
        unsafe fn clamp(mut self, low: Self, high: Self) -> Self {
            for i in 0..4 {
                self.0[i] = unsafe { vminq_f32(vmaxq_f32(self.0[i], low.0[i]), high.0[i]) };
            }
            self
        }
        #[inline(always)]
        unsafe fn bounded(mut self, low: Self, high: Self) -> Self {
            for i in 0..4 {
                self.0[i] = unsafe { vminq_f32(vmaxnmq_f32(self.0[i], low.0[i]), high.0[i]) };
            }
            self
        }
        #[inline(always)]
        unsafe fn greater(mut self, other: Self) -> Self {
            for i in 0..4 {
                self.0[i] = unsafe { vmaxq_f32(self.0[i], other.0[i]) };
            }
            self
        }
        #[inline(always)]
        unsafe fn abs(self) -> Self {
            Self(self.0.map(|x| unsafe { vabsq_f32(x) }))
        }
        #[inline(always)]
        unsafe fn times_two_to(mut self, n: Self) -> Self {
            for i in 0..4 {
                let power = unsafe { vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(n.0[i]), vdupq_n_s32(127))) };
                self.0[i] = unsafe { vmulq_f32(self.0[i], vreinterpretq_f32_s32(power)) };
            }
            self
        }
        #[inline(always)]
        unsafe fn reciprocal(mut self) -> Self {
            for x in &mut self.0 {
                *x = unsafe { vdivq_f32(vdupq_n_f32(1.0), *x) };
            }
            self
        }
    }
}
