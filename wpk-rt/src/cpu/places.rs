//! Where the factors of products are: offsets of rows, and panels of what is computed at run time.

use std::ops::Range;
use wpk_plan::problem::{Contraction, PANEL};

/// A row offset that stands for zeros.
pub(super) const OUTSIDE: i32 = i32::MIN;

/// The row offsets of an access for every point of `m` and `taps`.
pub(super) fn row_table(c: &Contraction, m: &[usize], taps: &[usize]) -> Option<Vec<i32>> {
    let count = |loops: &[usize]| loops.iter().map(|&l| c.space[l]).product::<usize>();
    let (rows, columns) = (count(m), count(taps));
    let mut table = Vec::with_capacity(rows * columns);
    // Indices are sums of a part by row and a part by tap.
    let parts = |loops: &[usize], with_offset: bool| {
        let mut parts: Vec<Vec<i64>> = vec![c.a.dims.iter().map(|d| if with_offset { d.index.offset } else { 0 }).collect()];
        for &l in loops {
            let step: Vec<i64> =
                c.a.dims.iter().map(|d| d.index.terms.iter().filter(|t| usize::from(t.0) == l).map(|t| t.1).sum()).collect();
            parts = parts
                .iter()
                .flat_map(|p| {
                    (0..c.space[l] as i64).map(|i| p.iter().zip(&step).map(|(p, s)| p + i * s).collect::<Vec<_>>()).collect::<Vec<_>>()
                })
                .collect();
        }
        parts
    };
    let (by_row, by_tap) = (parts(m, true), parts(taps, false));
    for row in &by_row {
        for tap in &by_tap {
            let at = c.a.dims.iter().enumerate().try_fold(c.a.offset as i64, |at, (i, d)| {
                let index = row[i] + tap[i];
                let inside = index >= 0 && index % d.index.divisor == 0 && index / d.index.divisor < d.extent as i64;
                inside.then(|| at + index / d.index.divisor * d.stride)
            });
            table.push(match at {
                Some(at) => i32::try_from(at).ok()?,
                None => OUTSIDE,
            });
        }
    }
    Some(table)
}

/// The elements from the first to the last that some row offsets, with runs of such a depth, read.
pub(super) fn reach(offsets: &[i32], depth: usize) -> Range<usize> {
    let inside = || offsets.iter().filter(|&&o| o != OUTSIDE).map(|&o| o as usize);
    inside().min().zip(inside().max()).map_or(0..0, |(first, last)| first..last + depth)
}

/// One panel of a second factor that is computed at run time.
pub(super) unsafe fn pack_panel(from: *const f32, k: &[i64], n: &[i64], to: *mut f32) {
    let contiguous = n.len() == PANEL && n.windows(2).all(|w| w[1] == w[0] + 1);
    for (i, &k) in k.iter().enumerate() {
        unsafe {
            let to = to.add(i * PANEL);
            if contiguous {
                std::ptr::copy_nonoverlapping(from.offset((k + n[0]) as isize), to, PANEL);
            } else {
                n.iter().enumerate().for_each(|(j, &o)| to.add(j).write(*from.offset((k + o) as isize)));
                (n.len()..PANEL).for_each(|j| to.add(j).write(0.0));
            }
        }
    }
}
