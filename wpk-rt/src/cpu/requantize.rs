//! The end of most sums of bytes, in one pass from the sums to memory: `level((sum + a) * m + b)` with a vector each for `a`, `m` and `b` along
//! the columns, where `level(x) = clamp(round(x / by) + zero, low, high)`; with a residual, `level((level(...) - z) * s + (residual - y) * t)`.

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
    pub(super) level: Level,
    pub(super) residual: Option<Residual>,
    /// What a level is less, and what then multiplies it, where numbers are stored and not levels.
    pub(super) number: Option<(f32, f32)>,
}

/// `clamp(round(x / by) + zero, low, high)`
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Level {
    pub(super) by: f32,
    pub(super) zero: f32,
    pub(super) low: f32,
    pub(super) high: f32,
}

/// Levels of signed bytes that are added to those of the sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Residual {
    /// An input by number.
    pub(super) input: usize,
    /// What one of its levels is less, and what then multiplies it.
    pub(super) own: (f32, f32),
    /// The same for the levels of the sum.
    pub(super) sum: (f32, f32),
    /// What is stored for both.
    pub(super) level: Level,
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

/// Where rows begin: what is stored, and the residual.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) to: *mut u8,
    pub(super) rows: &'a [u32],
    pub(super) residual: *const i8,
    pub(super) theirs: &'a [u32],
}

dispatch! {
    /// Rows of sums: the tile, the vectors, how many columns, where each row goes.
    ///
    /// # Safety
    /// `sums` holds a row of [`STRIDE`] for each offset, the places are valid for `n` bytes from every offset.
    pub(super) unsafe fn requantize(r: &Requantize, sums: *const i32, vectors: *const f32, n: usize, places: Places<'_>) = body
}

#[inline(always)]
unsafe fn body(r: &Requantize, sums: *const i32, vectors: *const f32, n: usize, places: Places<'_>) {
    unsafe {
        match r.residual {
            None => match r.number {
                None => rows::<u8>(sums, vectors, n, places, |x, _| r.level.of(x)),
                Some((less, by)) => rows::<f32>(sums, vectors, n, places, |x, _| (r.level.of(x) - less) * by),
            },
            Some(Residual { own, sum, level, .. }) => {
                rows::<u8>(sums, vectors, n, places, |x, y| level.of((r.level.of(x) - sum.0) * sum.1 + (y - own.0) * own.1));
            }
        }
    }
}

/// An element that is stored.
trait Stored: Copy + Default {
    /// Of a level or a number.
    ///
    /// # Safety
    /// A level is within eight bits.
    unsafe fn of(x: f32) -> Self;
}

impl Stored for u8 {
    #[inline(always)]
    unsafe fn of(x: f32) -> Self {
        unsafe { x.to_int_unchecked::<i32>() as u8 }
    }
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn of(x: f32) -> Self {
        x
    }
}

#[inline(always)]
unsafe fn rows<T: Stored>(sums: *const i32, vectors: *const f32, n: usize, places: Places<'_>, f: impl Fn(f32, f32) -> f32) {
    for (i, (&row, &theirs)) in places.rows.iter().zip(places.theirs).enumerate() {
        let (sums, to) = (sums.wrapping_add(i * STRIDE), places.to.cast::<T>().wrapping_add(row as usize));
        let residual = places.residual.wrapping_add(theirs as usize);
        for at in (0..n).step_by(PANEL) {
            let some = (n - at).min(PANEL);
            unsafe {
                let sums = sums.add(at).cast::<[i32; PANEL]>().read_unaligned();
                let a = vectors.add(at).cast::<[i32; PANEL]>().read_unaligned();
                let m = vectors.add(STRIDE + at).cast::<[f32; PANEL]>().read_unaligned();
                let b = vectors.add(2 * STRIDE + at).cast::<[f32; PANEL]>().read_unaligned();
                let mut theirs = [0i8; PANEL];
                if places.residual.is_null() {
                } else if some == PANEL {
                    theirs = residual.add(at).cast::<[i8; PANEL]>().read_unaligned();
                } else {
                    (0..some).for_each(|l| theirs[l] = *residual.add(at + l));
                }
                let mut levels = [T::default(); PANEL];
                for l in 0..PANEL {
                    let x = f(sums[l].wrapping_add(a[l]) as f32 * m[l] + b[l], f32::from(theirs[l]));
                    levels[l] = T::of(x);
                }
                if some == PANEL {
                    to.add(at).cast::<[T; PANEL]>().write_unaligned(levels);
                } else {
                    (0..some).for_each(|l| to.add(at + l).write(levels[l]));
                }
            }
        }
    }
}

impl Level {
    /// The level of a number; what is none becomes the lowest.
    #[inline(always)]
    pub(super) fn of(&self, x: f32) -> f32 {
        let x = (x / self.by).round_ties_even() + self.zero;
        let x = if x > self.low { x } else { self.low };
        if x < self.high { x } else { self.high }
    }
}
