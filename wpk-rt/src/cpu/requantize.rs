//! The end of most sums of bytes, in one pass from the sums to memory: `level((sum + a) * m + b)` with a vector each for `a`, `m` and `b` along
//! the columns, where `level(x) = clamp(round(x / by) + zero, low, high)`; with a residual, `level((level(...) - z) * s + (residual - y) * t)`.
//!
//! What a level is divided by divides `m`, `b`, `s` and `t` instead. A quotient may be off by a last bit then, as it is where floating products
//! are added in another order, and is rounded to another level only where it lies that near to the middle between two.

use super::isa::{dispatch, lanes};
use super::microkernel::STRIDE;
use super::simd::Lanes;
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

/// Elements of the vectors of a tile's columns: `a`, and `m` and `b` divided by what the level is.
pub(super) const VECTORS: usize = 3 * STRIDE;

/// Writes the vectors of so many columns.
///
/// # Safety
/// `inputs` tells where an input's columns begin; `vectors` must hold [`VECTORS`] elements.
pub(super) unsafe fn prepare(r: &Requantize, inputs: impl Fn(usize) -> *const f32, columns: usize, vectors: *mut f32) {
    let a = r.a.map_or(Column::Const(0.0), Column::Input);
    for (i, (column, by)) in [(a, None), (r.m, Some(r.level.by)), (r.b, Some(r.level.by))].into_iter().enumerate() {
        let to = vectors.wrapping_add(i * STRIDE);
        unsafe {
            match column {
                Column::Const(x) => (0..columns).for_each(|i| to.add(i).write(x)),
                Column::Input(input) => std::ptr::copy_nonoverlapping(inputs(input), to, columns),
            }
            if let Some(by) = by {
                divide(to, columns, by);
            }
        }
    }
}

dispatch! {
    unsafe fn divide(numbers: *mut f32, n: usize, by: f32) = divide_body
}

#[inline(always)]
unsafe fn divide_body(numbers: *mut f32, n: usize, by: f32) {
    (0..n).for_each(|i| unsafe { *numbers.add(i) /= by });
}

/// Where rows begin: what is stored, and the residual.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) to: *mut u8,
    pub(super) rows: &'a [u32],
    pub(super) residual: *const i8,
    pub(super) theirs: &'a [u32],
}

/// Rows of sums: the tile, the vectors that were prepared, how many columns, where each row goes.
///
/// # Safety
/// `sums` holds a row of [`STRIDE`] for each offset, the places are valid for `n` elements from every offset.
pub(super) unsafe fn requantize(r: &Requantize, sums: *const i32, vectors: *const f32, n: usize, places: Places<'_>) {
    macro_rules! compiled {
        ($V:ty $(, $feature:literal)?) => {{
            $(#[target_feature(enable = $feature)])?
            unsafe fn compiled(r: &Requantize, sums: *const i32, vectors: *const f32, n: usize, places: Places<'_>) {
                unsafe { body::<$V>(r, sums, vectors, n, places) }
            }
            compiled as unsafe fn(&Requantize, *const i32, *const f32, usize, Places<'_>)
        }};
    }
    unsafe { lanes!(compiled)(r, sums, vectors, n, places) }
}

/// A sum of a float below 2^22 and this one has the nearest integer, of two the even one, as its lowest bits.
const WHOLE: f32 = 12_582_912.0;

/// Levels and zeros are smaller, so that differences of two are small enough for [`WHOLE`].
const NARROW: f32 = 1_048_576.0;

/// A level's numbers as vectors.
struct Bounds<V> {
    low: V,
    high: V,
    whole: V,
    /// What the nearest integer is less than the level.
    zero: f32,
}

impl<V: Lanes> Bounds<V> {
    #[inline(always)]
    unsafe fn new(level: &Level) -> Self {
        let splat = |x: f32| unsafe { V::splat(x) };
        Self { low: splat(level.low - level.zero), high: splat(level.high - level.zero), whole: splat(WHOLE), zero: level.zero }
    }

    /// The level of a number that was divided, as the lowest byte of a float's bits.
    #[inline(always)]
    unsafe fn level(&self, x: V, one: V) -> V {
        unsafe { V::splat(WHOLE + self.zero).mul_add(x.bounded(self.low, self.high), one) }
    }

    /// The level less something.
    #[inline(always)]
    unsafe fn less(&self, x: V, one: V, less: f32) -> V {
        unsafe {
            let whole = self.whole.mul_add(x.bounded(self.low, self.high), one);
            V::splat(self.zero - less).mul_add(V::splat(-WHOLE).mul_add(whole, one), one)
        }
    }
}

/// As many whole panels at a time as there are, whose vectors stay in registers, then what is left.
#[inline(always)]
unsafe fn body<V: Lanes>(r: &Requantize, sums: *const i32, vectors: *const f32, n: usize, places: Places<'_>) {
    unsafe {
        match n / PANEL {
            0 => {}
            1 => panels::<V, 1>(r, sums, vectors, (0, PANEL), &places),
            2 => panels::<V, 2>(r, sums, vectors, (0, PANEL), &places),
            3 => panels::<V, 3>(r, sums, vectors, (0, PANEL), &places),
            _ => panels::<V, 4>(r, sums, vectors, (0, PANEL), &places),
        }
        if !n.is_multiple_of(PANEL) {
            panels::<V, 1>(r, sums, vectors, (n / PANEL * PANEL, n % PANEL), &places);
        }
    }
}

const _: () = assert!(STRIDE == 4 * PANEL);

/// Some panels from a column on; of the last one so many columns.
#[inline(always)]
unsafe fn panels<V: Lanes, const P: usize>(
    r: &Requantize,
    sums: *const i32,
    vectors: *const f32,
    (column, some): (usize, usize),
    places: &Places<'_>,
) {
    unsafe {
        let (one, nothing, bounds) = (V::splat(1.0), V::splat(0.0), Bounds::<V>::new(&r.level));
        let mut scales = [[nothing; 2]; P];
        for p in 0..P {
            scales[p] = [STRIDE, 2 * STRIDE].map(|vector| V::load(vectors.add(vector + column + p * PANEL)));
        }
        let number = |i: usize, p: usize| {
            let (at, [m, b]) = (column + p * PANEL, scales[p]);
            b.mul_add(V::sums(sums.wrapping_add(i * STRIDE + at), vectors.wrapping_add(at).cast()), m)
        };
        let rows = places.rows.iter().map(|&row| row as usize + column).enumerate();
        match (&r.residual, r.number) {
            (None, None) => {
                for (i, row) in rows {
                    for p in 0..P {
                        store_levels(bounds.level(number(i, p), one), places.to.wrapping_add(row + p * PANEL), some);
                    }
                }
            }
            (None, Some((less, scale))) => {
                for (i, row) in rows {
                    for p in 0..P {
                        let x = nothing.mul_add(bounds.less(number(i, p), one, less), V::splat(scale));
                        let to = places.to.cast::<f32>().wrapping_add(row + p * PANEL);
                        if some == PANEL { x.store(to) } else { x.store_some(to, some) }
                    }
                }
            }
            (Some(Residual { own, sum, level, .. }), _) => {
                let all = Bounds::<V>::new(level);
                let [sum_by, own_by] = [sum.1 / level.by, own.1 / level.by].map(|x| V::splat(x));
                for ((i, row), &theirs) in rows.zip(places.theirs) {
                    for p in 0..P {
                        let theirs = bytes::<V>(places.residual.wrapping_add(theirs as usize + column + p * PANEL), some);
                        let y = nothing.mul_add(V::splat(-own.0).mul_add(theirs, one), own_by);
                        let x = y.mul_add(bounds.less(number(i, p), one, sum.0), sum_by);
                        store_levels(all.level(x, one), places.to.wrapping_add(row + p * PANEL), some);
                    }
                }
            }
        }
    }
}

/// Some signed bytes as floats.
#[inline(always)]
unsafe fn bytes<V: Lanes>(p: *const i8, some: usize) -> V {
    let mut all = [0i8; PANEL];
    unsafe {
        if some == PANEL {
            return V::load_bytes(p);
        }
        std::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), some);
        V::load_bytes(all.as_ptr())
    }
}

/// Some levels.
#[inline(always)]
unsafe fn store_levels<V: Lanes>(levels: V, to: *mut u8, some: usize) {
    let mut all = [0u8; PANEL];
    unsafe {
        if some == PANEL {
            return levels.store_bytes(to);
        }
        levels.store_bytes(all.as_mut_ptr());
        std::ptr::copy_nonoverlapping(all.as_ptr(), to, some);
    }
}

impl Level {
    /// Whether [`requantize`] computes it.
    pub(super) fn is_narrow(&self) -> bool {
        [self.zero, self.low, self.high].iter().all(|x| x.abs() < NARROW)
    }

    /// The level of a number; what is none becomes the lowest.
    #[inline(always)]
    pub(super) fn of(&self, x: f32) -> f32 {
        let x = (x / self.by).round_ties_even() + self.zero;
        let x = if x > self.low { x } else { self.low };
        if x < self.high { x } else { self.high }
    }
}
