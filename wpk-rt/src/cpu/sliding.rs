//! Windows of channels by themselves that slide along rows: a column of the input is read once for all results of a row it belongs to, and two
//! rows that share lines of the first cache are computed at a time.

use super::channelwise::{Element, Ends};
use super::isa::{Isa, isa};
use super::places::OUTSIDE;
use super::simd::Lanes;
use wpk_plan::problem::PANEL;

/// Rows of results of a tile, at most.
pub(super) const ROWS: usize = 2;
/// Results of a row of a tile, at most.
pub(super) const WIDEST: usize = 7;
/// Columns of the widest tile's windows.
const COLUMNS: usize = (WIDEST - 1) * 2 + 5;
/// Rows of a window, at most.
const TALLEST: usize = 7;

/// How a window moves along a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Slide {
    /// Rows and columns of a window.
    window: (usize, usize),
    /// Columns from one result's window to the next one's.
    step: usize,
    /// Results of a row of a tile.
    pub(super) width: usize,
    /// Elements of the input from one column to the next, from one row of a window, and from the window of a result to that of the row below.
    apart: [isize; 3],
    /// Columns of a tile's windows.
    columns: usize,
}

/// Results that are computed together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tile {
    /// The first one, rows, and results of each.
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) windows: Windows,
}

/// Where the windows of a tile are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Windows {
    /// Their first element, if it were inside, and which rows and columns are: bits, from the lowest one on.
    Slide { at: isize, rows: u32, columns: u32 },
    /// Where the table says; there are fewer than kernels take, or they do not slide.
    Any,
}

impl Slide {
    /// For windows of so many columns, of rows of so many results, if neighbours share columns: found out in the table of offsets.
    pub(super) fn new(table: &[i32], taps: usize, columns: usize, row: usize) -> Option<Self> {
        let tall = taps / columns;
        if tall > TALLEST || row < 2 {
            return None;
        }
        let shared = |step: usize| {
            let later = |(at, windows): (usize, &[i32])| {
                // The last one of a row has no neighbour.
                let (one, next) = windows.split_at(taps);
                let same = |y: usize| (0..columns - step).all(|x| next[y * columns + x] == one[y * columns + x + step]);
                (at + 1) % row == 0 || (0..tall).all(same)
            };
            (0..table.len() / taps - 1).map(|at| (at, &table[at * taps..(at + 2) * taps])).all(later)
        };
        let step = STEPS.iter().filter(|s| s.0 == columns).map(|s| s.1).find(|&step| step < columns && shared(step))?;
        // What differs anywhere is no window inside, but one at the edge.
        let first = |windows: &[i32], at: usize| windows.get(at).filter(|&&offset| offset != OUTSIDE).map(|&offset| offset as isize);
        let between = |at: usize| {
            let pairs = (0..table.len()).step_by(taps).map(|from| (first(table, from), first(table, from + at)));
            pairs.filter_map(|(one, other)| Some(other? - one?)).next().unwrap_or(0)
        };
        let apart = [1, columns * usize::from(tall > 1), row * taps].map(between);
        let left = |width: usize| row % width;
        let width = *widths().iter().filter(|&&width| width <= row).min_by_key(|&&width| left(width))?;
        Some(Self { window: (tall, columns), step, width, apart, columns: (width - 1) * step + columns })
    }

    /// All results, in rows of so many.
    pub(super) fn tiles(&self, table: &[i32], taps: usize, row: usize) -> Vec<Tile> {
        let mut tiles = vec![];
        let all = table.len() / taps / row;
        for y in (0..all).step_by(tall()) {
            let rows = (all - y).min(tall());
            for x in (0..row).step_by(self.width) {
                let (first, width) = (y * row + x, self.width.min(row - x));
                let slides = (width == self.width).then(|| self.windows(|a| &table[(first + a * row) * taps..][..width * taps], rows));
                tiles.push(Tile { first, rows, width, windows: slides.flatten().unwrap_or(Windows::Any) });
            }
        }
        tiles
    }

    /// Where the windows of some rows of results are, if some rows and columns are inside and everything else is not.
    fn windows<'a>(&self, table: impl Fn(usize) -> &'a [i32], rows: usize) -> Option<Windows> {
        let (tall, wide) = self.window;
        // Of every element: its row and column in the tile, how far from the first it is, and its offset.
        let elements = |a: usize| {
            table(a).iter().enumerate().map(move |(at, &offset)| {
                let (y, x) = (at / wide % tall, at / (tall * wide) * self.step + at % wide);
                let [along, down, below] = self.apart;
                (a * tall + y, x, x as isize * along + y as isize * down + a as isize * below, offset)
            })
        };
        let mut all = (0..rows).flat_map(elements);
        let at = all.clone().find(|e| e.3 != OUTSIDE).map(|e| e.3 as isize - e.2)?;
        let inside = || (0..rows).flat_map(elements).filter(|e| e.3 != OUTSIDE);
        let (rows, columns) = inside().fold((0u32, 0u32), |(rows, columns), (y, x, ..)| (rows | 1 << y, columns | 1 << x));
        let expected = |(y, x, from, offset): (usize, usize, isize, i32)| match rows >> y & columns >> x & 1 {
            0 => offset == OUTSIDE,
            _ => offset != OUTSIDE && offset as isize == at + from,
        };
        all.all(expected).then_some(Windows::Slide { at, rows, columns })
    }

    /// Whether all windows of a tile are inside.
    pub(super) fn inside(&self, tile: &Tile) -> bool {
        let all = |n: usize| (1u32 << n) - 1;
        matches!(tile.windows, Windows::Slide { rows, columns, .. } if rows == all(tile.rows * self.window.0) && columns == all(self.columns))
    }
}

/// Where the columns of a tile's windows are, from the first channel on.
pub(super) struct Columns<E> {
    /// Of every row of results, and of every row of its windows: the first column, or all of them.
    places: [*const E; ROWS * TALLEST * COLUMNS],
}

impl<E> Columns<E> {
    pub(super) fn new() -> Self {
        Self { places: [std::ptr::null(); ROWS * TALLEST * COLUMNS] }
    }

    /// Those of a tile; zeros stand for what is outside.
    #[inline(always)]
    pub(super) fn set(&mut self, slide: &Slide, tile: &Tile, inside: bool, x: *const E, zeros: *const E) {
        let Windows::Slide { at, rows, columns } = tile.windows else { return };
        let [along, down, below] = slide.apart;
        let mut places = self.places.iter_mut();
        for a in 0..tile.rows {
            for y in 0..slide.window.0 {
                let first = x.wrapping_offset(at + a as isize * below + y as isize * down);
                let here = if rows >> (a * slide.window.0 + y) & 1 == 1 { columns } else { 0 };
                for (column, place) in (0..if inside { 1 } else { slide.columns }).zip(&mut places) {
                    *place = if here >> column & 1 == 1 { first.wrapping_offset(column as isize * along) } else { zeros };
                }
            }
        }
    }
}

/// Windows' columns and steps that kernels are made for.
const STEPS: [(usize, usize); 5] = [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)];

/// What this machine's registers have room for: results of a row, the best first, and rows.
fn widths() -> &'static [usize] {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &[7, 4],
        Isa::Portable => &[],
        _ => &[3],
    }
}

fn tall() -> usize {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => ROWS,
        _ => 1,
    }
}

/// Sums of a tile by some channels, whose weights begin there: the columns, the first channel, weights, channels in all, here, where the first
/// row's sums go, and how many rows later the next one's.
pub(super) type Sums<E> = unsafe fn(&Slide, &Columns<E>, usize, *const E, usize, usize, (Ends, usize));

/// The kernel for a number of rows, inside the input or not.
pub(super) fn kernel<E: Element>(slide: &Slide, rows: usize, inside: bool) -> Option<Sums<E>> {
    macro_rules! compiled {
        ($V:ty, $features:literal, [$($columns:literal by $step:literal),*], $rows:literal, $width:literal) => {{
            #[target_feature(enable = $features)]
            unsafe fn sums<E: Element, const K: usize, const S: usize, const Y: usize, const INSIDE: bool>(
                slide: &Slide, columns: &Columns<E>, channel: usize, w: *const E, channels: usize, width: usize, ends: (Ends, usize),
            ) {
                unsafe { vectors::<E, $V, K, S, Y, $width, INSIDE>(slide, columns, channel, w, channels, width, ends) }
            }
            match (slide.window.1, slide.step, rows, inside) {
                $(
                    ($columns, $step, $rows, true) => return Some(sums::<E, $columns, $step, $rows, true>),
                    ($columns, $step, $rows, false) => return Some(sums::<E, $columns, $step, $rows, false>),
                )*
                _ => {}
            }
        }};
    }
    macro_rules! steps {
        ($V:ty, $features:literal, $rows:literal x $width:literal) => {
            if slide.width == $width {
                compiled!($V, $features, [3 by 1, 3 by 2, 5 by 1, 5 by 2, 7 by 1], $rows, $width)
            }
        };
    }
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            steps!(super::simd::x86::Avx512, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma", 2 x 7);
            steps!(super::simd::x86::Avx512, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma", 1 x 7);
            steps!(super::simd::x86::Avx512, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma", 2 x 4);
            steps!(super::simd::x86::Avx512, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma", 1 x 4);
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => steps!(super::simd::x86::Avx2, "avx2,fma", 1 x 3),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => steps!(super::simd::arm::Neon, "neon", 1 x 3),
        Isa::Portable => {}
    }
    None
}

#[inline(always)]
unsafe fn vectors<E: Element, V: Lanes, const K: usize, const S: usize, const Y: usize, const X: usize, const INSIDE: bool>(
    slide: &Slide,
    columns: &Columns<E>,
    channel: usize,
    w: *const E,
    channels: usize,
    width: usize,
    ends: (Ends, usize),
) {
    let mut at = 0;
    while at < width {
        // The last vector overlaps the one before and repeats some of its sums.
        let first = at.min(width - PANEL);
        unsafe { vector::<E, V, K, S, Y, X, INSIDE>(slide, columns, (channel, first), w.add(first), channels, &ends) }
        at += PANEL;
    }
}

#[inline(always)]
unsafe fn vector<E: Element, V: Lanes, const K: usize, const S: usize, const Y: usize, const X: usize, const INSIDE: bool>(
    slide: &Slide,
    columns: &Columns<E>,
    (channel, at): (usize, usize),
    w: *const E,
    channels: usize,
    ends: &(Ends, usize),
) {
    unsafe {
        let mut sums = [[[V::splat(0.0); 1]; X]; Y];
        // Not in a loop, which the compiler would keep and sums leave registers for.
        let end = |a: usize| ends.0.at_row(a * ends.1).at_column(at);
        sums[0] = end(0).begin::<V, X, 1>();
        if Y > 1 {
            sums[Y - 1] = end(Y - 1).begin::<V, X, 1>();
        }
        let (tall, wide) = (slide.window.0, (X - 1) * S + K);
        for y in 0..tall {
            let mut weights = [V::splat(0.0); K];
            for x in 0..K {
                weights[x] = E::load(w.add((y * K + x) * channels));
            }
            for a in 0..Y {
                let places = columns.places.as_ptr().add((a * tall + y) * if INSIDE { 1 } else { wide });
                let (mut elements, mut place) = ([V::splat(0.0); COLUMNS], *places);
                for column in 0..wide {
                    elements[column] = E::load(place.add(channel + at));
                    place = if INSIDE { place.wrapping_offset(slide.apart[0]) } else { *places.wrapping_add(column + 1) };
                }
                for x in 0..K {
                    for b in 0..X {
                        sums[a][b][0] = sums[a][b][0].mul_add(elements[b * S + x], weights[x]);
                    }
                }
            }
        }
        end(0).take::<E, V, X, 1>(sums[0]);
        if Y > 1 {
            end(Y - 1).take::<E, V, X, 1>(sums[Y - 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::places::OUTSIDE;
    use super::{Slide, Windows, widths};

    /// The table of windows of `k` by `k` in an image of `n` by `n`, a step and a dilation, padded so that every tap meets the middle.
    fn table(n: i32, k: i32, step: i32, dilation: i32) -> (Vec<i32>, usize) {
        let results = (0..n).step_by(step as usize);
        let at = |y: i32, x: i32| if (0..n).contains(&y) && (0..n).contains(&x) { 8 * (y * n + x) } else { OUTSIDE };
        let taps = |y: i32, x: i32| (0..k * k).map(move |t| at(y + (t / k - k / 2) * dilation, x + (t % k - k / 2) * dilation));
        let table = results.clone().flat_map(|y| results.clone().flat_map(move |x| taps(y, x)));
        (table.collect(), results.count())
    }

    #[test]
    fn neighbours_share_columns() {
        if widths().is_empty() {
            return;
        }
        for (n, k, step, dilation, expected) in [
            (14, 3, 1, 1, Some((1, [8, 112, 112]))),
            (14, 3, 2, 1, Some((2, [8, 112, 224]))),
            (16, 5, 2, 1, Some((2, [8, 128, 256]))),
            (14, 7, 1, 1, Some((1, [8, 112, 112]))),
            (14, 3, 3, 1, None),
            (14, 3, 1, 2, None),
            (14, 4, 1, 1, None),
        ] {
            let (table, row) = table(n, k, step, dilation);
            let taps = (k * k) as usize;
            let slide = Slide::new(&table, taps, k as usize, row);
            assert_eq!(slide.map(|s| (s.step, s.apart)), expected, "{n} {k} {step} {dilation}");
            let Some(slide) = slide else { continue };
            // Every result is in one tile, and those that a whole tile has slide.
            let tiles = slide.tiles(&table, taps, row);
            let mut results = vec![0; row * row];
            for tile in &tiles {
                (0..tile.rows).for_each(|a| results[tile.first + a * row..][..tile.width].iter_mut().for_each(|n| *n += 1));
                assert_eq!(tile.windows == Windows::Any, tile.width < slide.width, "{tile:?}");
            }
            assert!(results.iter().all(|&n| n == 1), "{results:?}");
            assert!(tiles.iter().any(|tile| slide.inside(tile)) || row < 3 * slide.width, "{tiles:?}");
        }
    }
}
