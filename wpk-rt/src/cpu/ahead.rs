//! Panels of the second factor that are multiplied next: asked for, or made, while others are multiplied.

use super::copied::{LINE, TILE};
use super::microkernel::{L2, fetch};
use std::ops::Range;
use wpk_plan::problem::PANEL;

/// Makes panels of the plan's in `f32`: neighbours in one, how many, where all panels go, and the pair of depth that the first is of, counting those of panels before.
/// What is left of the last step becomes zeros.
pub(super) type Make = unsafe fn(*const u8, usize, *mut u8, usize);

/// What a tile does ahead.
#[repr(C)]
pub(super) struct Ahead {
    pub(super) from: *const u8,
    /// Lines to ask for in every step.
    pub(super) lines: usize,
    /// Pairs to make, and where.
    pub(super) pairs: usize,
    pub(super) to: *mut u8,
    /// What follows, where kernels make panels step by step.
    #[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code, reason = "of tiles alone"))]
    pub(super) next: *const u8,
}

impl Ahead {
    /// Asks for what belongs to a step.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "of this machine's kernels alone"))]
    #[inline(always)]
    pub(super) fn fetch(&self, step: usize) {
        let from = self.from.wrapping_add(step * self.lines * LINE);
        (0..self.lines).for_each(|line| fetch::<L2>(from.wrapping_add(line * LINE).cast()));
    }
}

/// Nothing.
pub(super) const NONE: Ahead = Ahead { from: std::ptr::null(), lines: 0, pairs: 0, to: std::ptr::null_mut(), next: std::ptr::null() };

/// Panels, or the same part of several.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub(super) from: *const u8,
    pub(super) count: usize,
    /// Bytes of the part of one, and from one to the next.
    pub(super) bytes: usize,
    pub(super) stride: usize,
}

impl Panels {
    fn at(&self, byte: usize) -> *const u8 {
        let panel = (byte / self.bytes).min(self.count - 1);
        self.from.wrapping_add(panel * self.stride + byte - panel * self.bytes)
    }

    /// What one of so many tiles asks for in its steps.
    pub(super) fn fetched(&self, (t, count): (usize, usize), steps: usize) -> Ahead {
        let lines = (self.count * self.bytes).div_ceil(LINE * count * steps);
        Ahead { from: self.at(t * lines * LINE * steps), lines, ..NONE }
    }

    /// Pairs of a panel.
    fn pairs(&self) -> usize {
        (self.bytes / (PANEL * 4)).div_ceil(2 * TILE) * TILE
    }

    /// The first step of a panel, of so many numbers a column.
    pub(super) fn step(&self, depth: usize) -> Self {
        Self { count: 1, bytes: depth * PANEL * 4, ..*self }
    }

    /// What makes a panel's steps but the first, and the first one of what follows.
    pub(super) fn stepwise(&self, depth: usize, next: Option<&Self>, to: *mut u8) -> Ahead {
        Ahead { from: self.from.wrapping_add(self.step(depth).bytes), to, next: next.map_or(self.from, |next| next.from), ..NONE }
    }

    /// Makes all.
    pub(super) unsafe fn make(&self, make: Make, to: *mut u8) {
        unsafe { self.some(make, 0..self.count * self.pairs(), to) }
    }

    /// Makes some pairs.
    pub(super) unsafe fn some(&self, make: Make, range: Range<usize>, to: *mut u8) {
        const PAIR: usize = 2 * PANEL * 4;
        let (pairs, mut first) = (self.pairs(), range.start);
        while first < range.end {
            let (panel, at) = (first / pairs, first % pairs);
            let end = range.end.min((panel + 1) * pairs);
            let numbers = (self.bytes - at * PAIR).min((end - first) * PAIR) / (PANEL * 4);
            unsafe { make(self.from.wrapping_add(panel * self.stride + at * PAIR), numbers, to, first) };
            first = end;
        }
    }

    /// What one of so many tiles makes in its steps, where the depth is one of whole steps, and what it has to make behind them.
    pub(super) fn made(&self, (t, count): (usize, usize), parts: usize, to: *mut u8) -> (Ahead, Range<usize>) {
        let pairs = self.pairs();
        let Range { start, end } = super::part(self.count * pairs, count, t);
        let stop = if self.stride == self.bytes { end } else { end.min((start / pairs + 1) * pairs) };
        let to = to.wrapping_add(start / TILE * parts * TILE * LINE + start % TILE * LINE);
        (Ahead { from: self.at(start * 2 * PANEL * 4), pairs: stop - start, to, ..NONE }, stop..end)
    }
}
