//! Rows of products that are read where they lie, in runs of whole groups, instead of being copied.

use super::Transformed;
use super::copied::Factors;
use super::places::OUTSIDE;
use crate::buffer::Memory;
use std::sync::{Arc, OnceLock};

/// How rows are read so.
#[derive(Clone, Copy)]
pub(super) struct Reads {
    /// Elements of a group.
    pub(super) group: usize,
    /// Depth and groups of panels up to which rows are read so: more read copies.
    pub(super) most: (usize, usize),
    /// Makes sums of products of rows, each told by the places of its runs.
    pub(super) multiply: unsafe fn(&Factors<'_>),
    /// Copies a panel whose rows lie one after another to one whose runs are filled up to whole groups: the panel, how many runs, their depth, and where to.
    /// Where there is none, runs of no whole groups are copied.
    pub(super) fill: Option<unsafe fn(*const u8, usize, usize, *mut u8)>,
    /// Bytes of a panel of so much depth.
    pub(super) panel: fn(usize) -> usize,
}

/// What a product has for it.
pub(super) struct InPlace {
    reads: Reads,
    /// Bytes of an element.
    element: usize,
    depth: usize,
    /// Depth of a run's groups, the last of which may be more than the run.
    run: usize,
    /// What stands for runs outside.
    outside: Vec<u8>,
    /// The first element behind all runs.
    end: i64,
    /// Panels whose runs are filled up, where they are not so in the plan.
    filled: Option<OnceLock<Arc<Memory>>>,
}

/// Depth from which on runs of no whole groups are copied, since there is little to gain. Those below tell filled panels of the same weights apart:
/// sections begin at multiples of it.
const SHORT: usize = 64;
/// Runs that would be read beyond the end, which are as many as bytes that a group may be more.
const LAST: usize = 4;

impl InPlace {
    /// Bytes of a thread's copies of the last runs.
    pub(super) const COPIES: usize = LAST * SHORT;

    /// For runs of a depth at some offsets, of elements of so many bytes, if they are read so; `small` is for no panels beside the plan's.
    pub(super) fn new(reads: Reads, element: usize, depth: usize, (table, batch): (&[i32], &[i64]), small: bool) -> Option<Self> {
        let whole = depth.is_multiple_of(reads.group);
        if !whole && (small || depth * element >= SHORT || reads.fill.is_none()) {
            return None;
        }
        let run = depth.next_multiple_of(reads.group);
        let end = i64::from(*table.iter().max()?) + batch.iter().max()? + depth as i64;
        Some(Self { reads, element, depth, run, outside: vec![0; run * element], end, filled: (!whole).then(OnceLock::new) })
    }

    /// Groups of so many runs.
    pub(super) fn groups(&self, runs: usize) -> usize {
        runs * self.run / self.reads.group
    }

    /// Bytes of a panel of so many runs.
    pub(super) fn panel(&self, runs: usize) -> usize {
        (self.reads.panel)(runs * self.run)
    }

    /// Where runs at some offsets of a batch of the first factor are read.
    pub(super) unsafe fn places(&self, first: *const u8, offsets: &[i32], batch: i64, to: *mut *const u8, copies: *mut u8) {
        let (outside, from) = (self.outside.as_ptr(), first.wrapping_offset(batch as isize * self.element as isize));
        for (i, &offset) in offsets.iter().enumerate() {
            let place = match (offset == OUTSIDE, self.filled.is_none()) {
                (true, _) => outside,
                (_, true) => from.wrapping_offset(offset as isize * self.element as isize),
                _ => unsafe { self.place(first, i64::from(offset) + batch, copies) },
            };
            unsafe { to.add(i).write(place) };
        }
    }

    /// Where a run is read, an offset from the first factor on: groups beyond its end are read from a copy.
    unsafe fn place(&self, first: *const u8, offset: i64, copies: *mut u8) -> *const u8 {
        let (from, left) = (first.wrapping_offset(offset as isize * self.element as isize), (self.end - offset) as usize);
        if left >= self.run {
            return from;
        }
        let copy = copies.wrapping_add((left - self.depth) * SHORT);
        unsafe { std::ptr::copy_nonoverlapping(from, copy, self.depth * self.element) };
        copy
    }

    /// The panels of weights, so many of so many runs.
    pub(super) fn panels(&self, weights: *const u8, count: usize, runs: usize) -> *const u8 {
        let (Some(filled), Some(copy)) = (&self.filled, self.reads.fill) else { return weights };
        let (plain, panel) = ((self.reads.panel)(runs * self.depth), self.panel(runs));
        let fill = || {
            let memory = Memory::new(count * panel);
            for p in 0..count {
                unsafe { copy(weights.wrapping_add(p * plain), runs, self.depth, memory.ptr().wrapping_add(p * panel)) };
            }
            Arc::new(memory)
        };
        filled.get_or_init(fill).ptr().cast_const()
    }

    /// Fills panels up once, or takes those of another plan.
    pub(super) fn prepare(&self, weights: *const u8, count: usize, runs: usize, known: &mut Transformed) {
        let Some(filled) = &self.filled else { return };
        let _ = known.get(&(weights as usize + self.depth)).is_some_and(|memory| filled.set(memory.clone()).is_ok());
        self.panels(weights, count, runs);
        filled.get().map(|memory| known.insert(weights as usize + self.depth, memory.clone()));
    }
}
