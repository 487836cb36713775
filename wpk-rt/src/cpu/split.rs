//! Products in `f32` by instructions that multiply bfloat16: every number is the sum of three of eight significant bits, which is all that `f32` holds, and of the nine
//! products of parts the six largest are made (Henry, Tang and Heinecke, Leveraging the bfloat16 Artificial Intelligence Datatype for
//! Higher-Precision Computations, 2019). What is left out is at most 2^-20 of a product and 2^-24 of a sum of random ones, where adding the products in `f32` costs several times
//! as much; sums are rounded as those of plain products are, sixteen times less often. Parts below the smallest normal number, 2^-126, count as zero. Sums that are not finite are computed again by plain products.

use super::amx;
use super::contraction::runs;
use super::copied::{Form, LINE, TILE, lines};
use super::isa::dispatch;
use std::arch::x86_64::{
    __m512, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_loadu_si512, _mm512_mask_storeu_epi16,
    _mm512_maskz_loadu_ps, _mm512_permutex2var_epi16, _mm512_set1_epi32, _mm512_sub_ps,
};
use wpk_plan::problem::{Contraction, PANEL, Roles};

/// Parts of a number.
const PARTS: usize = 3;
/// Depth of a step: what a row of a tile holds.
const DEPTH: usize = 32;

/// Where this machine has tiles, and they are clearly faster than plain products.
pub(super) fn form(c: &Contraction) -> Option<Form> {
    const CLEARLY: f64 = 0.75;
    let roles = c.roles();
    if !amx::has(amx::BF16) || runs(c, &roles).1 < DEPTH || estimate(&roles) >= CLEARLY * plain(&roles) {
        return None;
    }
    Some(Form {
        from: 4,
        to: 2,
        parts: PARTS,
        group: DEPTH,
        tiled: true,
        rows: amx::ROWS,
        panel: |r| r.count(&r.k()).div_ceil(DEPTH) * PARTS * TILE * LINE,
        zero: 0,
        copy: split,
        multiply: amx::split,
        shape: Some(amx::shape),
        made: Some(panels),
    })
}

/// Nanoseconds of a plain product on one core with wide vectors.
fn plain(roles: &Roles) -> f64 {
    let (m, n, k) = sizes(roles);
    (m * n * k / 60.0).max(n * k * 4.0 / BYTES)
}

/// Bytes of weights that come from memory in a nanosecond.
const BYTES: f64 = 12.0;

fn sizes(roles: &Roles) -> (f64, f64, f64) {
    let batch = roles.count(&roles.batch) as f64;
    (roles.count(&roles.m) as f64, batch * roles.count(&roles.n) as f64, roles.count(&roles.k()) as f64)
}

/// Nanoseconds on one core: products of whole tiles, what it takes to copy rows and to store sums through memory, or reading weights where that takes longer.
fn estimate(roles: &Roles) -> f64 {
    let (m, n, k) = sizes(roles);
    let whole = |x: f64, of: usize| (x / of as f64).ceil() * of as f64;
    let (rows, columns, depth) = (whole(m, 16), whole(n, PANEL), whole(k, DEPTH));
    (rows * columns * (depth / 150.0 + 2.0)).max(n * k * 6.0 / BYTES)
}

/// The parts of a number, as `f32` whose lower halves are zero.
#[inline(always)]
fn parts(x: f32) -> [u32; PARTS] {
    let top = |x: f32| x.to_bits() & 0xffff_0000;
    let first = top(x);
    let rest = x - f32::from_bits(first);
    let second = top(rest);
    [first, second, top(rest - f32::from_bits(second))]
}

/// Places of the upper halves of two vectors' words.
static UPPER: [u16; 2 * PANEL] = {
    let mut all = [0; 2 * PANEL];
    let mut i = 0;
    while i < all.len() {
        all[i] = 2 * i as u16 + 1;
        i += 1;
    }
    all
};

#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn split(from: *const u8, n: usize, begin: *mut u8, first: usize) {
    let (upper, tops) = (unsafe { _mm512_loadu_si512(UPPER.as_ptr().cast()) }, _mm512_set1_epi32(0xffff_0000u32 as i32));
    for (at, n) in lines(first..first + n, DEPTH) {
        let from = from.cast::<f32>().wrapping_add(at - first);
        let line = begin.wrapping_add(at / DEPTH * PARTS * TILE * LINE + at % DEPTH * 2);
        let mask = u32::MAX >> (DEPTH - n);
        let mut low = unsafe { _mm512_maskz_loadu_ps(mask as u16, from) };
        let mut high = unsafe { _mm512_maskz_loadu_ps((mask >> PANEL) as u16, from.wrapping_add(PANEL)) };
        for part in 0..PARTS {
            let halves = _mm512_permutex2var_epi16(_mm512_castps_si512(low), upper, _mm512_castps_si512(high));
            unsafe { _mm512_mask_storeu_epi16(line.wrapping_add(part * TILE * LINE).cast(), mask, halves) };
            let rest = |x: __m512| _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), tops)));
            (low, high) = (rest(low), rest(high));
        }
    }
}

dispatch! {
    unsafe fn panels(from: *const f32, k: usize, panels: usize, to: *mut u8) = panels_body
}

/// Of panels in `f32`: pairs of depth side by side, the parts of a step one after another.
#[inline(always)]
unsafe fn panels_body(from: *const f32, k: usize, panels: usize, to: *mut u8) {
    let steps = k.div_ceil(DEPTH);
    for panel in 0..panels {
        for pair in 0..k.div_ceil(2) {
            let row = |depth: usize| {
                let row = from.wrapping_add((panel * k + depth) * PANEL).cast::<[f32; PANEL]>();
                if depth < k { unsafe { row.read_unaligned() } } else { [0.0; PANEL] }
            };
            let (even, odd) = (row(2 * pair), row(2 * pair + 1));
            let mut all = [[0u32; PANEL]; PARTS];
            for l in 0..PANEL {
                let (even, odd) = (parts(even[l]), parts(odd[l]));
                (0..PARTS).for_each(|part| all[part][l] = even[part] >> 16 | odd[part]);
            }
            let (step, line) = (pair * 2 / DEPTH, pair % (DEPTH / 2));
            for (part, words) in all.iter().enumerate() {
                let at = (((panel * steps + step) * PARTS + part) * TILE + line) * LINE;
                unsafe { to.add(at).cast::<[u32; PANEL]>().write_unaligned(*words) };
            }
        }
    }
}
