//! Products in `f32` by instructions that multiply bfloat16: every number is the sum of three of eight significant bits, which is all that `f32` holds, and of the nine
//! products of parts the six largest are made (Henry, Tang and Heinecke, Leveraging the bfloat16 Artificial Intelligence Datatype for
//! Higher-Precision Computations, 2019). What is left out is at most 2^-20 of a product and 2^-24 of a sum of random ones, where adding the products in `f32` costs several times
//! as much; sums are rounded as those of plain products are, sixteen times less often. Parts below the smallest normal number, 2^-126, count as zero. Sums that are not finite are computed again by plain products.
//! Weights stay as they are in memory: the panels that are multiplied next are parted while vector instructions have nothing else to do.

use super::amx;
use super::contraction::runs;
use super::copied::{Form, LINE, TILE, lines};
use super::tall;
use std::arch::x86_64::{
    __m512, __m512i, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_storeu_epi16, _mm512_maskz_loadu_ps, _mm512_permutex2var_epi16, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_sub_ps,
};
use wpk_plan::problem::{Contraction, PANEL, Roles};

/// Parts of a number.
const PARTS: usize = 3;
/// Depth of a step: what a row of a tile holds.
const DEPTH: usize = 32;

/// Where this machine has tiles, and they are faster than plain products.
pub(super) fn form(c: &Contraction) -> Option<Form> {
    let (m, n, k) = sizes(&c.roles());
    if !faster(c, m * n * k / MULTIPLIED + n * k / READ) {
        return None;
    }
    let tall = tall(m, k);
    Some(Form {
        from: 4,
        to: 2,
        parts: PARTS,
        group: DEPTH,
        tiled: true,
        tall,
        to_end: false,
        cut: None,
        rows: if tall { tall::ROWS } else { amx::ROWS },
        panel: |r| r.count(&r.k()) * PANEL * 4,
        zero: 0,
        copy: split,
        multiply: if tall { tall::multiply } else { amx::split },
        direct: false,
        in_place: None,
        shape: Some(if tall { tall::shape } else { amx::shape }),
        made: Some(panels),
    })
}

/// Multiplications and weights read from memory in a nanosecond on one core of such machines.
pub(super) const MULTIPLIED: f64 = 60.0;
pub(super) const READ: f64 = 5.0;

/// Whether tiles take clearly less than so many nanoseconds on one core.
pub(super) fn faster(c: &Contraction, than: f64) -> bool {
    const CLEARLY: f64 = 0.9;
    let roles = c.roles();
    amx::has(amx::BF16) && runs(c, &roles).1 >= DEPTH && estimate(&roles) < CLEARLY * than
}

fn sizes(roles: &Roles) -> (f64, f64, f64) {
    let batch = roles.count(&roles.batch) as f64;
    (roles.count(&roles.m) as f64, batch * roles.count(&roles.n) as f64, roles.count(&roles.k()) as f64)
}

/// Whether [`super::tall`] multiplies so many rows: more than two tiles, of whole steps.
fn tall(m: f64, k: f64) -> bool {
    let (low, high) = ((2 * TILE) as f64, tall::ROWS[0] as f64);
    m > low && m <= high && k % DEPTH as f64 == 0.0 && k >= (tall::STEPS * DEPTH) as f64
}

/// Nanoseconds on one core: products of whole tiles and the ends of sums, parting rows, and reading and parting weights.
fn estimate(roles: &Roles) -> f64 {
    let (m, n, k) = sizes(roles);
    let whole = |x: f64, of: usize| (x / of as f64).ceil() * of as f64;
    if tall(m, k) {
        return whole(m, tall::TILES) * whole(n, PANEL) * (k / 130.0 + 0.4) + m * k / 4.0 + n * k / 10.0;
    }
    let (rows, columns, depth) = (whole(m, TILE), whole(n, PANEL), whole(k, DEPTH));
    rows * columns * (depth / 150.0 + 0.4) + m * k / 4.0 + n * k / 3.5
}

/// Places of halves of words, those of two vectors one after the other.
type Places = [u16; 2 * PANEL];

/// The upper halves of the first vector's words, then of the second's; and the same in turn.
static UPPER: Places = places(false);
pub(super) static PAIRS: Places = places(true);

const fn places(turns: bool) -> Places {
    let (mut all, mut i) = ([0; 2 * PANEL], 0);
    while i < all.len() {
        let word = if turns { i / 2 + i % 2 * PANEL } else { i };
        all[i] = 2 * word as u16 + 1;
        i += 1;
    }
    all
}

/// Stores the parts of the numbers of two vectors, a part of both as its halves lie at places, where a mask has them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn parts(mut low: __m512, mut high: __m512, places: __m512i, mask: u32, to: *mut u8) {
    let tops = _mm512_set1_epi32(0xffff_0000u32 as i32);
    for part in 0..PARTS {
        let halves = _mm512_permutex2var_epi16(_mm512_castps_si512(low), places, _mm512_castps_si512(high));
        unsafe { _mm512_mask_storeu_epi16(to.wrapping_add(part * TILE * LINE).cast(), mask, halves) };
        let rest = |x: __m512| _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), tops)));
        (low, high) = (rest(low), rest(high));
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn split(from: *const u8, n: usize, begin: *mut u8, first: usize) {
    let upper = unsafe { _mm512_loadu_si512(UPPER.as_ptr().cast()) };
    for (at, n) in lines(first..first + n, DEPTH) {
        let from = from.cast::<f32>().wrapping_add(at - first);
        let mask = u32::MAX >> (DEPTH - n);
        unsafe {
            let low = _mm512_maskz_loadu_ps(mask as u16, from);
            let high = _mm512_maskz_loadu_ps((mask >> PANEL) as u16, from.wrapping_add(PANEL));
            parts(low, high, upper, mask, begin.wrapping_add(at / DEPTH * PARTS * TILE * LINE + at % DEPTH * 2));
        }
    }
}

/// Of neighbours in a panel in `f32`: pairs of depth side by side, the parts of a step one after another, from a pair on; zeros behind them in their last step.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn panels(from: *const u8, numbers: usize, to: *mut u8, first: usize) {
    const PAIRS_OF_STEP: usize = DEPTH / 2;
    let turns = unsafe { _mm512_loadu_si512(PAIRS.as_ptr().cast()) };
    let row = |at: usize| {
        let row = from.cast::<f32>().wrapping_add(at * PANEL);
        if at < numbers { unsafe { _mm512_loadu_ps(row) } } else { _mm512_setzero_ps() }
    };
    for (i, pair) in (first..(first + numbers.div_ceil(2)).next_multiple_of(PAIRS_OF_STEP)).enumerate() {
        let line = to.wrapping_add(pair / PAIRS_OF_STEP * PARTS * TILE * LINE + pair % PAIRS_OF_STEP * LINE);
        unsafe { parts(row(2 * i), row(2 * i + 1), turns, u32::MAX, line) };
    }
}
