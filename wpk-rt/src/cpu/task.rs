//! A task of a product of copied rows: some rows by some groups of panels, on one thread.

use super::ahead::{self, Panels};
use super::copied::{BYTES, Copied, Factors, Form, LINE, TILE, lines};
use super::in_place::InPlace;
use super::isa::dispatch;
use super::microkernel::{NEAR, STRIDE};
use super::part;
use super::places::OUTSIDE;
use std::ops::Range;
use wpk_plan::problem::PANEL;

pub(super) struct Task<'a> {
    pub(super) product: &'a Copied,
    pub(super) args: &'a [*mut u8],
    pub(super) weights: *const u8,
    pub(super) batch: usize,
    pub(super) rows: Range<usize>,
    /// Its groups of panels, of so many.
    pub(super) some: Range<usize>,
    pub(super) groups: usize,
    /// The thread's memory, which begins with copied rows.
    pub(super) own: *mut u8,
}

/// What the thread's memory is for, behind copied rows.
struct Own {
    /// Panels that are made, in turn.
    making: [*mut u8; 2],
    sums: *mut u8,
    scratch: *mut u8,
}

/// Sums of rows by the columns of some panels.
struct Sums {
    tile: *mut u8,
    rows: Range<usize>,
    panels: Range<usize>,
}

impl Task<'_> {
    fn memory(&self) -> Own {
        let product = self.product;
        let making = self.own.wrapping_add(product.copies());
        let making = making.wrapping_add(making.align_offset(BYTES));
        let sums = making.wrapping_add(2 * product.making());
        let scratch = sums.wrapping_add(product.tiles() * product.tile());
        Own { making: [making, making.wrapping_add(product.making())], sums, scratch }
    }

    /// # Safety
    /// As for [`super::Bound::run`].
    pub(super) unsafe fn run(&self) {
        let (product, own) = (self.product, self.memory());
        let Form { group, parts, tiled, tall, made, shape, multiply, direct, .. } = product.form;
        // Whether weights come from memory.
        let far = self.all() * product.panel >= 4 * NEAR;
        let (blocks, whole) = (product.blocks(), product.k.is_multiple_of(group));
        let mut order = (0..blocks).flat_map(|block| self.some.clone().map(move |g| (block, g))).peekable();
        let mut prepared = None;
        let mut end = |sums: Sums| unsafe {
            if prepared.replace(sums.panels.start) != Some(sums.panels.start) {
                self.product.epilogue.prepare(self.batch, self.columns(&sums.panels), self.args, own.scratch);
            }
            self.end(&sums, own.scratch);
        };
        let (mut waiting, mut shaped, mut turn, mut ready, mut which) = (None, 0, 0, false, 0);
        while let Some((block, g)) = order.next() {
            let steps = product.groups(block).len();
            let row = product.row(steps);
            if g == self.some.start {
                unsafe { self.copy(block) };
                turn = 0;
            }
            let (panels, next) = (self.panels(block, g), order.peek().map(|&(block, g)| self.panels(block, g)));
            let (b, panel) = match made {
                Some(make) => {
                    if !ready {
                        let first = if tall { panels.step(group) } else { panels };
                        unsafe { first.make(make, own.making[which]) };
                    }
                    (own.making[which].cast_const(), TILE * row)
                }
                None => (panels.from, product.panel),
            };
            let making = own.making[1 - which];
            // Steps take turns where they are made one by one.
            which = (which + if tall { steps } else { 1 }) % 2;
            let lasts = self.lasts(b, panels.count);
            let ends = [0, 1].map(|p| lasts.as_ref().map_or(std::ptr::null(), |lasts| lasts[p].as_ptr()));
            let columns = self.columns(&part(self.all(), self.groups, g));
            let at_once = || unsafe { product.epilogue.direct(self.batch, self.rows.start, columns, self.args) };
            let direct = (direct && blocks == 1).then(at_once).flatten();
            let most = product.form.rows[panels.count - 1];
            let (all, count) = (self.rows.len(), self.rows.len().div_ceil(most));
            for t in 0..count {
                let rows = if tiled { t * most..all.min((t + 1) * most) } else { part(all, count, t) };
                let tile = own.sums.wrapping_add(if blocks == 1 { turn % 2 } else { turn } * product.tile());
                let (ahead, rest) = match &next {
                    Some(next) if made.is_none() && (tiled || far) => (next.fetched((t, count), steps), 0..0),
                    _ if tall => (panels.stepwise(group, next.as_ref(), making), 0..0),
                    Some(next) if made.is_some() && whole => next.made((t, count), parts, making),
                    _ => (ahead::NONE, 0..0),
                };
                let (a, height) = (self.own.wrapping_add(rows.start * row), rows.len());
                let sums =
                    Sums { tile, rows: self.rows.start + rows.start..self.rows.start + rows.end, panels: part(self.all(), self.groups, g) };
                let last = block + 1 == blocks;
                if tiled && last {
                    product.epilogue.fetch(self.batch, sums.rows.clone(), sums.panels.start * PANEL, panels.count * PANEL, self.args);
                }
                unsafe {
                    shape.filter(|_| height != shaped).inspect(|shape| shape(height));
                    let row = product.together() * row;
                    let adds = block > 0;
                    let runs = if product.in_place.is_some() { product.taps } else { 1 };
                    multiply(&Factors {
                        a,
                        row,
                        runs,
                        groups: steps / runs,
                        rows: height,
                        b,
                        panel,
                        panels: panels.count,
                        ends,
                        tile,
                        adds,
                        ahead,
                        direct: direct.as_ref().map(|to| (to, rows.start)),
                    });
                    if let (Some(make), Some(next)) = (made, &next) {
                        next.some(make, rest, making);
                    }
                }
                (turn, shaped) = (turn + 1, height);
                if last && direct.is_none() {
                    // Sums that were just stored as tiles cannot be read at once: those before are, while these are made.
                    waiting.replace(sums).map(&mut end);
                }
            }
            ready = whole && next.is_some();
        }
        waiting.map(end);
        shape.inspect(|shape| unsafe { shape(0) });
    }

    /// The last tiles of some panels, where panels end within one.
    fn lasts(&self, b: *const u8, count: usize) -> Option<[[u8; BYTES]; 2]> {
        let panel = self.product.panel;
        let rest = self.product.form.cut.map(|head| (panel - head) % BYTES).filter(|&rest| rest > 0)?;
        let mut lasts = [[0; BYTES]; 2];
        for (p, last) in lasts.iter_mut().enumerate().take(count) {
            // SAFETY: the panel ends so far behind.
            unsafe { std::ptr::copy_nonoverlapping(b.add((p + 1) * panel - rest), last.as_mut_ptr(), rest) }
        }
        Some(lasts)
    }

    /// Panels of all columns.
    fn all(&self) -> usize {
        self.product.n.div_ceil(PANEL)
    }

    /// A block of the panels of a group.
    fn panels(&self, block: usize, g: usize) -> Panels {
        let Copied { panel, k, .. } = *self.product;
        let panels = part(self.all(), self.groups, g);
        let from = self.weights.wrapping_add((self.batch * self.all() + panels.start) * panel);
        if self.product.blocks() == 1 {
            return Panels { from, count: panels.len(), bytes: panel, stride: panel };
        }
        let [start, end] = self.depth(block).map(|at| at.min(k) * PANEL * 4);
        Panels { from: from.wrapping_add(start), count: panels.len(), bytes: end - start, stride: panel }
    }

    /// Where a block of the depth begins and ends, in whole groups.
    fn depth(&self, block: usize) -> [usize; 2] {
        let Range { start, end } = self.product.groups(block);
        [start, end].map(|g| g * self.product.form.group)
    }

    /// The first factor.
    fn a(&self) -> *const u8 {
        self.args[0].wrapping_offset(self.product.batch[self.batch] as isize * self.product.form.from as isize).cast_const()
    }

    /// Copies a block of the rows, or where they lie.
    unsafe fn copy(&self, block: usize) {
        if let Some(in_place) = &self.product.in_place {
            let (taps, batch) = (self.product.taps, self.product.batch[self.batch]);
            let (places, copies) = (self.own.cast::<*const u8>(), self.own.wrapping_add(self.product.copies() - InPlace::COPIES));
            let offsets = &self.product.table[self.rows.start * taps..self.rows.end * taps];
            return unsafe { in_place.places(self.args[0], offsets, batch, places, copies) };
        }
        let Form { from, zero, copy, tiled, to_end, .. } = self.product.form;
        let (k, taps, table) = (self.product.k, self.product.taps.max(1), &self.product.table);
        let (depth, [first, beyond]) = ((k / taps).max(1), self.depth(block));
        let (last, bytes) = (beyond.min(k), self.product.row(self.product.groups(block).len()));
        let height = self.product.height(self.rows.len());
        let (a, some) = (self.a(), first / depth..last.div_ceil(depth));
        for (r, row) in self.rows.clone().enumerate() {
            let begin = if tiled { r / height * TILE * bytes + r % height * LINE } else { r * bytes };
            let begin = self.own.wrapping_add(begin);
            let mut tap = some.start * depth;
            for &offset in &table[row * taps..][some.clone()] {
                let (start, end) = (first.max(tap), last.min(tap + depth));
                if offset == OUTSIDE {
                    unsafe { self.fill(begin, start - first..end - first, zero) };
                } else {
                    let at = offset as isize + (start - tap) as isize;
                    unsafe { copy(a.wrapping_offset(at * from as isize), end - start, begin, start - first) };
                }
                tap += depth;
            }
            // What is beyond the depth meets weights of zero.
            if last < beyond && !to_end {
                unsafe { self.fill(begin, last - first..beyond - first, 0) };
            }
        }
    }

    /// Fills some elements of a row that begins there with a byte.
    unsafe fn fill(&self, begin: *mut u8, range: Range<usize>, byte: u8) {
        let Form { to, parts, group, tiled, to_end, .. } = self.product.form;
        if !tiled {
            return unsafe { std::ptr::write_bytes(begin.add(range.start * to), byte, range.len() * to) };
        }
        for (at, n) in lines(range, group) {
            let line = begin.wrapping_add(at / group * parts * TILE * LINE + at % group * to);
            let n = if to_end { group - at % group } else { n };
            (0..parts).for_each(|p| unsafe { std::ptr::write_bytes(line.add(p * TILE * LINE), byte, n * to) });
        }
    }

    /// The first column of some panels, and how many.
    fn columns(&self, panels: &Range<usize>) -> (usize, usize) {
        let column = panels.start * PANEL;
        (column, (self.product.n - column).min(panels.len() * PANEL))
    }

    /// Stores a tile of sums.
    unsafe fn end(&self, sums: &Sums, scratch: *mut u8) {
        let Sums { tile, rows, panels } = sums;
        let (column, columns) = self.columns(panels);
        unsafe {
            if self.product.form.made.is_some() && !finite(tile.cast(), rows.len(), panels.len()) {
                self.again(sums);
            }
            self.product.epilogue.store(tile.cast(), self.batch, rows.start, rows.len(), column, columns, self.args, scratch);
        }
    }

    /// Sums of a tile by plain products of panels in `f32`: parts of what is not finite are not its sum.
    unsafe fn again(&self, Sums { tile, rows, panels }: &Sums) {
        let Copied { k, taps, table, .. } = self.product;
        let depth = k / taps.max(&1);
        for (r, row) in rows.clone().enumerate() {
            for (p, panel) in panels.clone().enumerate() {
                let b = self.args[1].cast::<[f32; PANEL]>().wrapping_add((self.batch * self.all() + panel) * k);
                let mut sums = [0.0f32; PANEL];
                for tap in 0..*taps {
                    let offset = table[row * taps + tap];
                    for i in 0..depth {
                        let x =
                            if offset == OUTSIDE { 0.0 } else { unsafe { *self.a().cast::<f32>().offset(offset as isize + i as isize) } };
                        let columns = unsafe { &*b.add(tap * depth + i) };
                        sums.iter_mut().zip(columns).for_each(|(sum, w)| *sum = x.mul_add(*w, *sum));
                    }
                }
                unsafe { tile.cast::<f32>().add(r * STRIDE + p * PANEL).cast::<[f32; PANEL]>().write(sums) };
            }
        }
    }
}

dispatch! {
    /// Whether all sums of a tile are finite.
    unsafe fn finite(tile: *const f32, rows: usize, panels: usize) -> bool = finite_body
}

#[inline(always)]
unsafe fn finite_body(tile: *const f32, rows: usize, panels: usize) -> bool {
    // Zero of each that is finite, else no number. Sums in `f32` keep their order, so that lanes stay lanes.
    let mut zeros = [0.0f32; PANEL];
    for r in 0..rows {
        for p in 0..panels {
            let sums = unsafe { tile.add(r * STRIDE + p * PANEL).cast::<[f32; PANEL]>().read_unaligned() };
            (0..PANEL).for_each(|l| zeros[l] += sums[l] * 0.0);
        }
    }
    zeros.iter().all(|&zero| zero == 0.0)
}
