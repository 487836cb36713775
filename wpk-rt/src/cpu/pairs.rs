//! Products in bfloat16 with sums in `f32`, by instructions that multiply pairs where the machine has them: half the weights to read, twice
//! the products at a time. The first factor is rounded as it is copied, or as it is read where columns are few.

use super::copied::{Factors, Form, VECTORS};
#[cfg(target_arch = "x86_64")]
use super::in_place::Reads;
use super::isa::dispatch;
use super::microkernel::STRIDE;
use wpk_plan::number::bf16;
use wpk_plan::problem::PANEL;

/// Depth and groups of panels up to which it costs less to round a pair anew for each than to copy it rounded.
#[cfg(target_arch = "x86_64")]
const MOST: (usize, usize) = (512, 3);

/// Pairs of bfloat16, with what this machine has for them: tiles, where there are some, at any depth.
pub(super) fn form() -> Form {
    let form = Form {
        from: 4,
        to: 2,
        parts: 1,
        group: 2,
        tiled: false,
        tall: false,
        to_end: false,
        cut: None,
        rows: VECTORS,
        panel: |r| 2 * PANEL * r.count(&r.k()),
        zero: 0,
        copy: round,
        multiply,
        direct: false,
        in_place: None,
        shape: None,
        made: None,
    };
    #[cfg(target_arch = "x86_64")]
    if super::isa::isa() == super::isa::Isa::Avx512 && is_x86_feature_detected!("avx512bf16") {
        let panel = |depth: usize| 2 * PANEL * depth;
        let reads = Reads { group: 2, most: MOST, multiply: native::in_place, fill: None, panel };
        let form = Form { copy: native::round, multiply: native::multiply, direct: true, in_place: Some(reads), ..form };
        #[cfg(target_os = "linux")]
        if super::amx::has(super::amx::BF16) {
            return Form {
                group: 32,
                tiled: true,
                to_end: true,
                cut: Some(0),
                rows: super::amx::ROWS,
                copy: native::round_to_tiles,
                multiply: super::amx::pairs,
                direct: false,
                in_place: None,
                shape: Some(super::amx::shape),
                ..form
            };
        }
        return form;
    }
    #[cfg(target_arch = "aarch64")]
    if super::isa::isa() == super::isa::Isa::Neon && super::pairs_neon::has() {
        return Form { multiply: super::pairs_neon::multiply, ..form };
    }
    form
}

dispatch! {
    unsafe fn round(from: *const u8, n: usize, begin: *mut u8, first: usize) = round_body
}

#[inline(always)]
unsafe fn round_body(from: *const u8, n: usize, begin: *mut u8, first: usize) {
    let (from, to) = (from.cast::<f32>(), begin.cast::<u16>().wrapping_add(first));
    (0..n).for_each(|i| unsafe { to.add(i).write(bf16(*from.add(i))) });
}

dispatch! {
    unsafe fn multiply(f: &Factors) = multiply_body
}

#[inline(always)]
unsafe fn multiply_body(f: &Factors) {
    let Factors { a, row, groups, rows, b, panel, panels, tile, .. } = *f;
    let wide = |x: u16| f32::from_bits(u32::from(x) << 16);
    for r in 0..rows {
        for p in 0..panels {
            let (a, b) = (a.wrapping_add(r * row).cast::<[u16; 2]>(), b.wrapping_add(p * panel).cast::<[[u16; 2]; PANEL]>());
            let mut sums = [0.0f32; PANEL];
            for pair in 0..groups {
                unsafe {
                    let [x, y] = a.add(pair).read_unaligned().map(wide);
                    let columns = b.add(pair).read_unaligned();
                    for l in 0..PANEL {
                        sums[l] += x * wide(columns[l][0]) + y * wide(columns[l][1]);
                    }
                }
            }
            unsafe { tile.cast::<f32>().add(r * STRIDE + p * PANEL).cast::<[f32; PANEL]>().write_unaligned(sums) }
        }
    }
}

/// With AVX512_BF16.
#[cfg(target_arch = "x86_64")]
mod native {
    use super::super::copied::{Factors, LINE, TILE, lines, sizes};
    use super::super::simd::x86::Avx512;
    use super::{PANEL, STRIDE, bf16};
    use std::arch::x86_64::{
        __m256i, __m512bh, __m512i, _mm256_storeu_si256, _mm512_castpd_ps, _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_dpbf16_ps,
        _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_epi16, _mm512_maskz_loadu_ps, _mm512_set1_epi32, _mm512_set1_pd,
        _mm512_setzero_ps, _mm512_storeu_ps,
    };
    use std::mem::transmute;

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")]
    pub(super) unsafe fn round(from: *const u8, n: usize, begin: *mut u8, first: usize) {
        unsafe { neighbours(from.cast(), n, begin.cast::<u16>().wrapping_add(first)) }
    }

    /// The same into a row of tiles, with zeros up to the end of a line.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "tiles are asked for on Linux"))]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")]
    pub(super) unsafe fn round_to_tiles(from: *const u8, n: usize, begin: *mut u8, first: usize) {
        const HALVES: usize = LINE / 2;
        for (at, n) in lines(first..first + n, HALVES) {
            let line = begin.wrapping_add(at / HALVES * TILE * LINE).cast::<i16>().wrapping_add(at % HALVES);
            let from = from.cast::<f32>().wrapping_add(at - first);
            let [some, to_end] = [n, HALVES - at % HALVES].map(|n| u32::MAX >> (HALVES - n));
            unsafe {
                let low = _mm512_maskz_loadu_ps(some as u16, from);
                let high = _mm512_maskz_loadu_ps((some >> PANEL) as u16, from.wrapping_add(PANEL));
                let rounded = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                _mm512_mask_storeu_epi16(line, to_end, rounded);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")]
    unsafe fn neighbours(from: *const f32, n: usize, to: *mut u16) {
        let whole = n / PANEL * PANEL;
        for i in (0..whole).step_by(PANEL) {
            unsafe {
                let rounded: __m256i = transmute(_mm512_cvtneps_pbh(_mm512_loadu_ps(from.add(i))));
                _mm256_storeu_si256(to.add(i).cast(), rounded);
            }
        }
        (whole..n).for_each(|i| unsafe { to.add(i).write(bf16(*from.add(i))) });
    }

    #[inline(always)]
    unsafe fn body<const M: usize, const N: usize, const AHEAD: bool, const PLACES: bool>(f: &Factors<'_>) {
        let Factors { runs, groups, b, panel, tile, ref ahead, direct, .. } = *f;
        unsafe {
            let mut sums = [[Avx512(_mm512_setzero_ps()); N]; M];
            if let Some((to, row)) = direct {
                to.at_row(row).begin(&mut sums);
            }
            let mut step = 0;
            for run in 0..runs {
                let rows = f.rows_of::<M, PLACES>(run);
                for pair in 0..groups {
                    if AHEAD {
                        ahead.fetch(step);
                    }
                    let mut columns: [__m512bh; N] = [transmute::<__m512i, __m512bh>(_mm512_set1_epi32(0)); N];
                    for j in 0..N {
                        columns[j] = transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b.add(j * panel + step * 4 * PANEL).cast()));
                    }
                    for r in 0..M {
                        let x = if PLACES {
                            let pairs = _mm512_castpd_ps(_mm512_set1_pd(rows[r].add(pair * 8).cast::<f64>().read_unaligned()));
                            _mm512_cvtne2ps_pbh(pairs, pairs)
                        } else {
                            transmute::<__m512i, __m512bh>(_mm512_set1_epi32(rows[r].add(pair * 4).cast::<i32>().read_unaligned()))
                        };
                        for j in 0..N {
                            sums[r][j].0 = _mm512_dpbf16_ps(sums[r][j].0, columns[j], x);
                        }
                    }
                    step += 1;
                }
            }
            if let Some((to, row)) = direct {
                return to.at_row(row).end(sums);
            }
            for r in 0..M {
                for j in 0..N {
                    _mm512_storeu_ps(tile.cast::<f32>().add(r * STRIDE + j * PANEL), sums[r][j].0);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")]
    unsafe fn copied<const M: usize, const N: usize, const AHEAD: bool>(f: &Factors<'_>) {
        unsafe { body::<M, N, AHEAD, false>(f) }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")]
    unsafe fn placed<const M: usize, const N: usize, const AHEAD: bool>(f: &Factors<'_>) {
        unsafe { body::<M, N, AHEAD, true>(f) }
    }

    sizes!(multiply = copied);
    sizes!(in_place = placed);
}
