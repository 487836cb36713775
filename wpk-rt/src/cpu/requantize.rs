//! The end of most sums of bytes, in one pass from the sums to memory: `clamp(round(((sum + a) * m + b) / by) + zero, low, high)` with a
//! vector each for `a`, `m` and `b` along the columns.

use super::isa::dispatch;
use super::microkernel::STRIDE;
use wpk_plan::problem::PANEL;

/// An operand that does not differ by row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Column {
    /// One for all columns.
    Const(f32),
    /// An input by number.
    Input(usize),
}

/// What is done to a sum; without `a`, nothing is added to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Requantize {
    pub(super) a: Option<usize>,
    pub(super) m: Column,
    pub(super) b: Column,
    pub(super) by: f32,
    pub(super) zero: f32,
    pub(super) low: f32,
    pub(super) high: f32,
}

/// Elements of the vectors of a tile.
pub(super) const VECTORS: usize = 3 * STRIDE;

/// The vectors of a tile's columns, once for all its rows: `a`, `m`, `b`, whatever they are beyond the columns.
///
/// # Safety
/// `inputs` tells where an input's columns begin; `to` must hold [`VECTORS`] elements.
pub(super) unsafe fn vectors(r: &Requantize, inputs: impl Fn(usize) -> *const f32, columns: usize, to: *mut f32) {
    let copy = |from: usize, to: *mut f32| unsafe { std::ptr::copy_nonoverlapping(inputs(from), to, columns) };
    let fill = |x: f32, to: *mut f32| (0..columns).for_each(|i| unsafe { to.add(i).write(x) });
    match r.a {
        Some(input) => copy(input, to),
        None => fill(0.0, to),
    }
    for (column, to) in [(r.m, to.wrapping_add(STRIDE)), (r.b, to.wrapping_add(2 * STRIDE))] {
        match column {
            Column::Const(x) => fill(x, to),
            Column::Input(input) => copy(input, to),
        }
    }
}

dispatch! {
    /// Rows of sums: the tile, the vectors, how many columns, where each row goes.
    ///
    /// # Safety
    /// `sums` holds a row of [`STRIDE`] for each offset, `to` is valid for `n` bytes from every offset.
    pub(super) unsafe fn requantize(r: &Requantize, sums: *const i32, vectors: *const f32, n: usize, to: *mut u8, rows: &[u32]) = body
}

#[inline(always)]
unsafe fn body(r: &Requantize, sums: *const i32, vectors: *const f32, n: usize, to: *mut u8, rows: &[u32]) {
    for (i, &row) in rows.iter().enumerate() {
        let (sums, to) = (sums.wrapping_add(i * STRIDE), to.wrapping_add(row as usize));
        for at in (0..n).step_by(PANEL) {
            unsafe {
                let sums = sums.add(at).cast::<[i32; PANEL]>().read_unaligned();
                let a = vectors.add(at).cast::<[i32; PANEL]>().read_unaligned();
                let m = vectors.add(STRIDE + at).cast::<[f32; PANEL]>().read_unaligned();
                let b = vectors.add(2 * STRIDE + at).cast::<[f32; PANEL]>().read_unaligned();
                let mut levels = [0u8; PANEL];
                for l in 0..PANEL {
                    let x = sums[l].wrapping_add(a[l]) as f32 * m[l] + b[l];
                    levels[l] = level(x, r);
                }
                if n - at >= PANEL {
                    to.add(at).cast::<[u8; PANEL]>().write_unaligned(levels);
                } else {
                    (0..n - at).for_each(|l| to.add(at + l).write(levels[l]));
                }
            }
        }
    }
}

/// The level of a number; what is none becomes the lowest.
#[inline(always)]
fn level(x: f32, r: &Requantize) -> u8 {
    let x = (x / r.by).round_ties_even() + r.zero;
    let x = if x > r.low { x } else { r.low };
    let x = if x < r.high { x } else { r.high };
    // SAFETY: bounds are within eight bits.
    unsafe { x.to_int_unchecked::<i32>() as u8 }
}
