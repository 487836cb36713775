//! Contractions whose first factor is copied tile by tile into the form that instructions multiply: rounded to bfloat16 or shifted to
//! unsigned bytes, the rows of a window one after another, or as a sum of several parts. The second factor lies in that form in panels.

use super::contraction::{CHUNK, OUTSIDE, row_table, runs};
use super::epilogue::Epilogue;
use super::isa::dispatch;
use super::microkernel::STRIDE;
use super::{Args, Bound, Cx, Transformed, part};
use crate::buffer::Memory;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use wpk_plan::problem::{Contraction, PANEL, Roles};

/// Rows at once by panels, where sums stay in vector registers.
pub(super) const VECTORS: &[usize] = &[8, 8, 8, 6];

/// A form of the factors, and what is compiled for it.
#[derive(Clone, Copy)]
pub(super) struct Form {
    /// Bytes of an element of the first factor.
    pub(super) from: usize,
    /// Bytes of one in the form.
    pub(super) to: usize,
    /// Parts whose sum an element is, of tiles alone.
    pub(super) parts: usize,
    /// Elements that are multiplied at a time: rows are filled up to a multiple.
    pub(super) group: usize,
    /// Whether sixteen rows of a group are together, a part of them after the other: tiles. Else rows lie one after another.
    pub(super) tiled: bool,
    /// Rows of a tile, by its panels.
    pub(super) rows: &'static [usize],
    /// Bytes of a panel of the second factor.
    pub(super) panel: fn(&Roles) -> usize,
    /// The bytes of an element that stands for zero.
    pub(super) zero: u8,
    /// Copies neighbours into a row: from, how many, where the row begins, and the first one's place in it.
    pub(super) copy: unsafe fn(*const u8, usize, *mut u8, usize),
    /// Sums of products: rows, bytes of one or of sixteen in tiles, groups, how many rows, the first panel, bytes of one, how many panels, the tile of four-byte
    /// sums with [`STRIDE`] in a row, and what to fetch meanwhile.
    pub(super) multiply: Multiply,
    /// Tells the machine how many rows are multiplied from now on, of tiles; none at the end.
    pub(super) shape: Option<unsafe fn(usize)>,
    /// Makes the panels of the plan's in `f32`, where those do not lie in the form: from, depth, panels, to, where all is zero. Sums that are not finite
    /// are then computed again, by those in `f32`.
    pub(super) made: Option<unsafe fn(*const f32, usize, usize, *mut u8)>,
}

/// See [`Form::multiply`].
pub(super) type Multiply = unsafe fn(*const u8, usize, usize, usize, *const u8, usize, usize, *mut u8, &Ahead);

/// Panels that are multiplied next, which come from memory meanwhile: where they lie, and lines of 64 bytes for every group of the depth.
#[repr(C)]
pub(super) struct Ahead {
    pub(super) from: *const u8,
    pub(super) lines: usize,
}

struct Copied {
    form: Form,
    panel: usize,
    batch: Vec<i64>,
    m: usize,
    n: usize,
    k: usize,
    taps: usize,
    /// `offset[row][tap]`, then contiguous.
    table: Vec<i32>,
    epilogue: Epilogue,
    weights: OnceLock<Arc<Memory>>,
}

/// For a contraction whose second factor lies in panels of a form.
pub(super) fn bind(c: &Contraction, form: Form) -> Option<Box<dyn Bound>> {
    let roles = c.roles();
    let (taps, depth) = runs(c, &roles);
    let (m, n, k) = (roles.count(&roles.m), roles.count(&roles.n), roles.count(&roles.k()));
    let batch = roles.offsets(&c.a, &roles.batch)?;
    let table = row_table(c, &roles.m, &taps)?;
    let epilogue = Epilogue::new(c, &roles.batch, &roles.m, &roles.n)?;
    let (panel, weights) = ((form.panel)(&roles), OnceLock::new());
    Some(Box::new(Copied { form, panel, batch, m, n, k, taps: k / depth, table, epilogue, weights }))
}

impl Copied {
    /// Groups of a row.
    fn groups(&self) -> usize {
        self.k.div_ceil(self.form.group)
    }

    /// Bytes of a copied row; of tiles, what a row adds to them.
    fn row(&self) -> usize {
        self.groups() * self.form.group * self.form.to * self.form.parts
    }

    /// Rows that lie together.
    fn together(&self) -> usize {
        if self.form.tiled { TILE } else { 1 }
    }

    /// Where a row begins.
    fn begin(&self, row: usize) -> usize {
        match self.form.tiled {
            true => row / TILE * TILE * self.row() + row % TILE * LINE,
            false => row * self.row(),
        }
    }

    /// Fills some elements of a row that begins there with a byte.
    unsafe fn fill(&self, begin: *mut u8, range: Range<usize>, byte: u8) {
        let Form { to, parts, group, tiled, .. } = self.form;
        if !tiled {
            return unsafe { std::ptr::write_bytes(begin.add(range.start * to), byte, range.len() * to) };
        }
        for (at, n) in lines(range, group) {
            let line = begin.wrapping_add(at / group * parts * TILE * LINE + at % group * to);
            (0..parts).for_each(|p| unsafe { std::ptr::write_bytes(line.add(p * TILE * LINE), byte, n * to) });
        }
    }

    /// Panels in the form, where they are made of the plan's.
    fn made(&self, args: &[*mut u8]) -> Option<&Arc<Memory>> {
        let make = self.form.made?;
        let panels = self.batch.len() * self.n.div_ceil(PANEL);
        Some(self.weights.get_or_init(|| {
            let memory = Memory::new(panels * self.panel);
            unsafe { make(args[1].cast::<f32>().cast_const(), self.k, panels, memory.ptr()) };
            Arc::new(memory)
        }))
    }

    /// Rows that are copied at once, for all their columns: as many as stay in the second cache.
    fn chunk(&self) -> usize {
        let rows = self.form.rows[self.panels() - 1];
        let (bytes, most) = if self.form.tiled { (TILES, 2 * CHUNK.next_multiple_of(rows)) } else { (COPIES, CHUNK) };
        (bytes / self.row()).clamp(rows, most) / rows * rows
    }

    /// Most panels of a tile.
    fn panels(&self) -> usize {
        let panels = self.n.div_ceil(PANEL);
        panels.div_ceil(panels.div_ceil(self.form.rows.len()))
    }

    /// Bytes of a tile of sums.
    fn tile(&self) -> usize {
        self.form.rows.iter().max().unwrap_or(&0) * STRIDE * 4
    }

    /// Bytes of the copied rows of a task.
    fn copies(&self) -> usize {
        (self.chunk().min(self.m).next_multiple_of(self.together()) * self.row()).next_multiple_of(64)
    }
}

/// Bytes of copied rows that stay in the second cache beside a tile's panels.
const COPIES: usize = 384 << 10;
/// The same where tiles are: such processors have two megabytes.
const TILES: usize = 1280 << 10;
/// Rows of a tile.
pub(super) const TILE: usize = 16;
/// Bytes of a tile's row.
pub(super) const LINE: usize = 64;

/// The lines of tiles that a range of a row's elements is in: the first one in each, and how many. A line's are a power of two.
#[inline(always)]
pub(super) fn lines(range: Range<usize>, line: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let end = range.end.min((at | (line - 1)) + 1);
        let found = (at, end - at);
        at = end;
        (found.1 > 0).then_some(found)
    })
}

impl Bound for Copied {
    fn scratch(&self) -> (usize, usize) {
        (0, self.copies() + 2 * self.tile() + self.epilogue.scratch())
    }

    unsafe fn prepare(&self, args: &[*mut u8], known: &mut Transformed) {
        if args[1].is_null() || self.form.made.is_none() {
            return;
        }
        // Sections begin at multiples of 64, so that parts make another key than tiles do.
        let key = args[1] as usize + self.form.parts;
        if let Some(found) = known.get(&key) {
            let _ = self.weights.set(found.clone());
        } else if let Some(made) = self.made(args) {
            known.insert(key, made.clone());
        }
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let groups = self.n.div_ceil(PANEL).div_ceil(self.form.rows.len());
        let rows = self.form.rows[self.panels() - 1];
        let mut chunks = self.m.div_ceil(self.chunk());
        let mut parts = 1;
        let enough = if cx.pool.threads() == 1 { 1 } else { 4 * cx.pool.threads() };
        // Rows are copied once for all columns of a task; where they are few, columns are shared out, and rows copied again.
        while self.batch.len() * chunks * parts < enough && (chunks * rows < self.m || parts < groups) {
            if parts < groups && self.m < 2 * enough * rows {
                parts += 1;
            } else if chunks * rows < self.m {
                chunks += 1;
            } else {
                break;
            }
        }
        let arguments = Args(args);
        let made = self.made(args);
        cx.pool.run(self.batch.len() * chunks * parts, &|task, thread| unsafe {
            let (b, chunk, columns) = (task / (chunks * parts), task / parts % chunks, task % parts);
            let tiles = part(self.m.div_ceil(rows), chunks, chunk);
            let range = tiles.start * rows..(tiles.end * rows).min(self.m);
            let panels = made.map_or(arguments.get()[1], |m| m.ptr()).cast_const();
            self.rows((arguments.get(), panels), b, range, part(groups, parts, columns), groups, cx.own(thread));
        });
    }
}

impl Copied {
    /// A range of rows times some of the groups of panels.
    unsafe fn rows(
        &self,
        (args, all_panels): (&[*mut u8], *const u8),
        batch: usize,
        range: Range<usize>,
        some: Range<usize>,
        groups: usize,
        own: *mut u8,
    ) {
        let Form { from, group, zero, copy, .. } = self.form;
        let tiles = [own.wrapping_add(self.copies()), own.wrapping_add(self.copies() + self.tile())];
        let element = |offset: i64| offset as isize * from as isize;
        let a = args[0].wrapping_offset(element(self.batch[batch])).cast_const();
        let (all, panel, depth) = (self.n.div_ceil(PANEL), self.panel, self.k / self.taps.max(1));
        for (r, row) in range.clone().enumerate() {
            let begin = own.wrapping_add(self.begin(r));
            for tap in 0..self.taps {
                let first = tap * depth;
                match self.table[row * self.taps + tap] {
                    OUTSIDE => unsafe { self.fill(begin, first..first + depth, zero) },
                    offset => unsafe { copy(a.wrapping_offset(element(offset.into())), depth, begin, first) },
                }
            }
            // What is beyond the depth meets weights of zero.
            unsafe { self.fill(begin, self.k..self.groups() * group, 0) };
        }
        let end = |sums: Sums| unsafe { self.end(sums, (args, a.cast()), batch, own.wrapping_add(self.copies() + 2 * self.tile())) };
        let (mut waiting, mut turn, mut shaped) = (None, 0, 0);
        for g in some.start..some.end {
            let panels = part(all, groups, g);
            let b = all_panels.wrapping_add((batch * all + panels.start) * panel);
            let width = panels.len();
            let most = self.form.rows[width - 1];
            let count = range.len().div_ceil(most);
            let share = |t: usize| if self.form.tiled { t * most..range.len().min((t + 1) * most) } else { part(range.len(), count, t) };
            let bytes = if g + 1 < some.end { part(all, groups, g + 1).len() * panel } else { 0 };
            let lines = bytes.div_ceil(LINE * count * self.groups());
            for (t, rows) in (0..count).map(share).enumerate() {
                let ahead = Ahead { from: b.wrapping_add(width * panel + t * lines * LINE * self.groups()), lines };
                let (copied, height, tile) = (own.wrapping_add(rows.start * self.row()), rows.len(), tiles[turn]);
                unsafe {
                    self.form.shape.filter(|_| height != shaped).inspect(|shape| shape(height));
                    (self.form.multiply)(copied, self.together() * self.row(), self.groups(), height, b, panel, width, tile, &ahead);
                }
                // Sums that were just stored as tiles cannot be read at once: those before are, while these are made.
                let sums = Sums { tile, rows: range.start + rows.start..range.start + rows.end, panels: panels.clone() };
                waiting.replace(sums).map(end);
                (turn, shaped) = (1 - turn, height);
            }
        }
        waiting.map(end);
        self.form.shape.inspect(|shape| unsafe { shape(0) });
    }

    /// Stores a tile of sums.
    unsafe fn end(&self, Sums { tile, rows, panels }: Sums, (args, a): (&[*mut u8], *const f32), batch: usize, scratch: *mut u8) {
        let column = panels.start * PANEL;
        let columns = (self.n - column).min(panels.len() * PANEL);
        unsafe {
            if self.form.made.is_some() && !finite(tile.cast(), rows.len(), panels.len()) {
                let first = (batch * self.n.div_ceil(PANEL) + panels.start, panels.len());
                self.again(args, a, rows.clone(), first, tile.cast());
            }
            self.epilogue.store(tile.cast(), batch, rows.start, rows.len(), column, columns, args, scratch);
        }
    }
}

/// Sums of rows by the columns of some panels.
struct Sums {
    tile: *mut u8,
    rows: Range<usize>,
    panels: Range<usize>,
}

impl Copied {
    /// Sums of a tile by plain products of panels in `f32`: parts of what is not finite are not its sum.
    unsafe fn again(&self, args: &[*mut u8], a: *const f32, range: Range<usize>, (first, width): (usize, usize), tile: *mut f32) {
        let depth = self.k / self.taps.max(1);
        for (r, row) in range.enumerate() {
            for p in 0..width {
                let b = args[1].cast::<[f32; PANEL]>().wrapping_add((first + p) * self.k);
                let mut sums = [0.0f32; PANEL];
                for tap in 0..self.taps {
                    let offset = self.table[row * self.taps + tap];
                    for i in 0..depth {
                        let x = if offset == OUTSIDE { 0.0 } else { unsafe { *a.offset(offset as isize + i as isize) } };
                        let columns = unsafe { &*b.add(tap * depth + i) };
                        sums.iter_mut().zip(columns).for_each(|(sum, w)| *sum = x.mul_add(*w, *sum));
                    }
                }
                unsafe { tile.add(r * STRIDE + p * PANEL).cast::<[f32; PANEL]>().write(sums) };
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

/// Lists a kernel of a number of rows and panels by both.
macro_rules! sizes {
    ($name:ident = $body:ident by $([$($m:literal)*] $n:literal),*) => {
        pub(super) unsafe fn $name(a: *const u8, row: usize, groups: usize, rows: usize, b: *const u8, panel: usize, panels: usize, tile: *mut u8, _: &$crate::cpu::copied::Ahead) {
            match (rows, panels) {
                $($(($m, $n) => unsafe { $body::<$m, $n>(a, row, groups, b, panel, tile) },)*)*
                _ => debug_assert!(false, "no kernel for {rows} rows and {panels} panels"),
            }
        }
    };
    ($name:ident = $body:ident) => {
        sizes!($name = $body by [1 2 3 4 5 6 7 8] 1, [1 2 3 4 5 6 7 8] 2, [1 2 3 4 5 6 7 8] 3, [1 2 3 4 5 6] 4);
    };
}
pub(super) use sizes;
