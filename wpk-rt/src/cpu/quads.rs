//! Products of bytes with sums in `i32`, by instructions that multiply and add four at a time where the machine has them. The first factor
//! is read as unsigned, 128 more; what that adds to a sum is taken off before it begins.

use super::copied::{Factors, Form, LINE, TILE, VECTORS, lines};
#[cfg(target_arch = "x86_64")]
use super::in_place::Reads;
use super::isa::dispatch;
use super::microkernel::STRIDE;
use wpk_plan::problem::{PANEL, Roles};

/// Bytes of the sums before a panel, which are as many as those of a quad of every column.
const QUAD: usize = 4 * PANEL;

/// Quads of bytes, with what this machine has for them at a depth.
pub(super) fn form(depth: usize) -> Form {
    let form = Form {
        from: 1,
        to: 1,
        parts: 1,
        group: 4,
        tiled: false,
        tall: false,
        to_end: false,
        cut: None,
        rows: VECTORS,
        panel: Roles::quads_panel,
        zero: 128,
        copy: shift,
        multiply,
        direct: false,
        in_place: None,
        shape: None,
        made: None,
    };
    #[cfg(target_arch = "x86_64")]
    if super::isa::isa() == super::isa::Isa::Avx512 && is_x86_feature_detected!("avx512vnni") {
        #[cfg(target_os = "linux")]
        if depth >= super::amx::DEPTH && super::amx::has(super::amx::INT8) {
            return Form {
                group: 64,
                tiled: true,
                cut: Some(4 * PANEL),
                rows: super::amx::ROWS,
                copy: shift_to_tiles,
                multiply: super::amx::quads,
                shape: Some(super::amx::shape),
                ..form
            };
        }
        return Form { copy: native::shift, multiply: native::multiply, in_place: Some(READS), ..form };
    }
    form
}

dispatch! {
    unsafe fn shift(from: *const u8, n: usize, begin: *mut u8, first: usize) = shift_body
}

dispatch! {
    #[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code, reason = "tiles are asked for on Linux"))]
    unsafe fn shift_to_tiles(from: *const u8, n: usize, begin: *mut u8, first: usize) = shift_to_tiles_body
}

#[inline(always)]
unsafe fn shift_to_tiles_body(from: *const u8, n: usize, begin: *mut u8, first: usize) {
    for (at, n) in lines(first..first + n, LINE) {
        unsafe { shift_body(from.wrapping_add(at - first), n, begin.wrapping_add(at / LINE * TILE * LINE), at % LINE) }
    }
}

#[inline(always)]
unsafe fn shift_body(from: *const u8, n: usize, begin: *mut u8, first: usize) {
    let to = begin.wrapping_add(first);
    let some = |at: usize| unsafe {
        let mut bytes = from.add(at).cast::<[u8; PANEL]>().read_unaligned();
        for byte in &mut bytes {
            *byte ^= 0x80;
        }
        to.add(at).cast::<[u8; PANEL]>().write_unaligned(bytes);
    };
    (0..n / PANEL).for_each(|i| some(i * PANEL));
    match n % PANEL {
        0 => {}
        // The last ones overlap those before.
        _ if n > PANEL => some(n - PANEL),
        _ => (0..n).for_each(|i| unsafe { to.add(i).write(*from.add(i) ^ 0x80) }),
    }
}

dispatch! {
    unsafe fn multiply(f: &Factors) = multiply_body
}

#[inline(always)]
unsafe fn multiply_body(f: &Factors) {
    let Factors { a, row, groups, rows, b, panel, panels, tile, .. } = *f;
    for r in 0..rows {
        for p in 0..panels {
            let (a, b) = (a.wrapping_add(r * row).cast::<[u8; 4]>(), b.wrapping_add(p * panel));
            let columns = b.wrapping_add(QUAD).cast::<[[i8; 4]; PANEL]>();
            unsafe {
                let mut sums = b.cast::<[i32; PANEL]>().read_unaligned();
                for quad in 0..groups {
                    let x = a.add(quad).read_unaligned().map(i32::from);
                    let columns = columns.add(quad).read_unaligned();
                    for l in 0..PANEL {
                        for i in 0..4 {
                            sums[l] += x[i] * i32::from(columns[l][i]);
                        }
                    }
                }
                tile.cast::<i32>().add(r * STRIDE + p * PANEL).cast::<[i32; PANEL]>().write_unaligned(sums);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
const READS: Reads = Reads {
    group: 4,
    most: (usize::MAX, usize::MAX),
    multiply: native::in_place,
    fill: Some(fill),
    panel: |depth| QUAD + depth.next_multiple_of(4) * PANEL,
};

/// Quads of a panel again, those of every run by themselves; what is beyond a run is zero.
#[cfg(target_arch = "x86_64")]
unsafe fn fill(from: *const u8, runs: usize, depth: usize, to: *mut u8) {
    let at = |k: usize, column: usize| QUAD + k / 4 * QUAD + column * 4 + k % 4;
    let filled = depth.next_multiple_of(4);
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, QUAD);
        std::ptr::write_bytes(to.add(QUAD), 0, runs * filled * PANEL);
        for (run, k) in (0..runs).flat_map(|run| (0..depth).map(move |k| (run, k))) {
            (0..PANEL).for_each(|column| to.add(at(run * filled + k, column)).write(*from.add(at(run * depth + k, column))));
        }
    }
}

/// With AVX512_VNNI.
#[cfg(target_arch = "x86_64")]
mod native {
    use super::super::copied::{Factors, sizes};
    use super::{PANEL, QUAD, STRIDE};
    use std::arch::x86_64::{
        __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_set1_epi8,
        _mm512_set1_epi32, _mm512_storeu_si512, _mm512_xor_si512,
    };

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
    pub(super) unsafe fn shift(from: *const u8, n: usize, begin: *mut u8, first: usize) {
        const BYTES: usize = 64;
        let (to, sign) = (begin.wrapping_add(first).cast::<i8>(), _mm512_set1_epi8(i8::MIN));
        for at in (0..n).step_by(BYTES) {
            let mask = u64::MAX >> (BYTES - (n - at).min(BYTES));
            unsafe {
                let bytes = _mm512_maskz_loadu_epi8(mask, from.add(at).cast());
                _mm512_mask_storeu_epi8(to.add(at), mask, _mm512_xor_si512(bytes, sign));
            }
        }
    }

    #[inline(always)]
    unsafe fn body<const M: usize, const N: usize, const AHEAD: bool, const PLACES: bool>(f: &Factors) {
        let Factors { runs, groups, b, panel, tile, ref ahead, .. } = *f;
        unsafe {
            let sign = _mm512_set1_epi8(i8::MIN);
            let mut sums: [[__m512i; N]; M] = [[_mm512_set1_epi32(0); N]; M];
            for j in 0..N {
                let first = _mm512_loadu_si512(b.add(j * panel).cast());
                (0..M).for_each(|r| sums[r][j] = first);
            }
            let mut step = 0;
            for run in 0..runs {
                let rows = f.rows_of::<M, PLACES>(run);
                for quad in 0..groups {
                    if AHEAD {
                        ahead.fetch(step);
                    }
                    let mut columns = [_mm512_set1_epi32(0); N];
                    for j in 0..N {
                        columns[j] = _mm512_loadu_si512(b.add(j * panel + QUAD + step * QUAD).cast());
                    }
                    for r in 0..M {
                        let mut x = _mm512_set1_epi32(rows[r].add(quad * 4).cast::<i32>().read_unaligned());
                        if PLACES {
                            x = _mm512_xor_si512(x, sign);
                        }
                        for j in 0..N {
                            sums[r][j] = _mm512_dpbusd_epi32(sums[r][j], x, columns[j]);
                        }
                    }
                    step += 1;
                }
            }
            for r in 0..M {
                for j in 0..N {
                    _mm512_storeu_si512(tile.cast::<i32>().add(r * STRIDE + j * PANEL).cast(), sums[r][j]);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
    unsafe fn copied<const M: usize, const N: usize, const AHEAD: bool>(f: &Factors) {
        unsafe { body::<M, N, AHEAD, false>(f) }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
    unsafe fn placed<const M: usize, const N: usize, const AHEAD: bool>(f: &Factors) {
        unsafe { body::<M, N, AHEAD, true>(f) }
    }

    sizes!(multiply = copied);
    sizes!(in_place = placed);
}
