//! Contractions whose first factor is copied tile by tile into the form that instructions multiply: rounded to bfloat16 or shifted to
//! unsigned bytes, the rows of a window one after another, or as a sum of several parts. The second factor lies in that form in panels.

use super::ahead::{self, Ahead, Make, Panels};
use super::contraction::{CHUNK, OUTSIDE, row_table, runs};
use super::epilogue::Epilogue;
use super::isa::dispatch;
use super::microkernel::STRIDE;
use super::{Args, Bound, Cx, part};
use std::ops::Range;
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
    /// Bytes of a panel of the second factor, as it lies in the plan.
    pub(super) panel: fn(&Roles) -> usize,
    /// The bytes of an element that stands for zero.
    pub(super) zero: u8,
    /// Copies neighbours into a row: from, how many, where the row begins, and the first one's place in it.
    pub(super) copy: unsafe fn(*const u8, usize, *mut u8, usize),
    /// Makes sums of products.
    pub(super) multiply: unsafe fn(&Factors),
    /// Tells the machine how many rows are multiplied from now on, of tiles; none at the end.
    pub(super) shape: Option<unsafe fn(usize)>,
    /// Makes panels of the plan's in `f32`, where those do not lie in the form. Sums that are not finite are then computed again, by those in `f32`.
    pub(super) made: Option<Make>,
}

/// What is multiplied.
pub(super) struct Factors {
    /// Rows: the first, bytes of one or of sixteen in tiles, groups, and how many.
    pub(super) a: *const u8,
    pub(super) row: usize,
    pub(super) groups: usize,
    pub(super) rows: usize,
    /// Panels: the first, bytes of one, and how many.
    pub(super) b: *const u8,
    pub(super) panel: usize,
    pub(super) panels: usize,
    /// Four-byte sums with [`STRIDE`] in a row, and whether they are added to, where panels are made.
    pub(super) tile: *mut u8,
    pub(super) adds: bool,
    pub(super) ahead: Ahead,
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
}

/// For a contraction whose second factor lies in panels of a form.
pub(super) fn bind(c: &Contraction, form: Form) -> Option<Box<dyn Bound>> {
    let roles = c.roles();
    let (taps, depth) = runs(c, &roles);
    let (m, n, k) = (roles.count(&roles.m), roles.count(&roles.n), roles.count(&roles.k()));
    let batch = roles.offsets(&c.a, &roles.batch)?;
    let table = row_table(c, &roles.m, &taps)?;
    let epilogue = Epilogue::new(c, &roles.batch, &roles.m, &roles.n)?;
    let panel = (form.panel)(&roles);
    Some(Box::new(Copied { form, panel, batch, m, n, k, taps: k / depth, table, epilogue }))
}

impl Copied {
    /// Blocks of the depth: where panels are made, so many that those of a block stay in the second cache beside its rows.
    fn blocks(&self) -> usize {
        let most = if self.form.made.is_some() { BLOCK } else { usize::MAX };
        self.k.div_ceil(most).max(1)
    }

    /// Groups of a block of a row.
    fn groups(&self, block: usize) -> Range<usize> {
        part(self.k.div_ceil(self.form.group), self.blocks(), block)
    }

    /// Bytes of so many groups of a copied row; of tiles, what a row adds to them.
    fn row(&self, groups: usize) -> usize {
        groups * self.form.group * self.form.to * self.form.parts
    }

    /// Bytes of a block of a copied row, at most.
    fn longest(&self) -> usize {
        self.row(self.k.div_ceil(self.form.group).div_ceil(self.blocks()))
    }

    /// Rows that lie together.
    fn together(&self) -> usize {
        if self.form.tiled { TILE } else { 1 }
    }

    /// Where a row of so many bytes begins.
    fn begin(&self, row: usize, bytes: usize) -> usize {
        match self.form.tiled {
            true => row / TILE * TILE * bytes + row % TILE * LINE,
            false => row * bytes,
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

    /// Rows that are copied at once, for all their columns: as many as stay in the second cache.
    fn chunk(&self) -> usize {
        let rows = self.form.rows[self.panels() - 1];
        let (bytes, most) = if self.form.tiled { (TILES, 2 * CHUNK.next_multiple_of(rows)) } else { (COPIES, CHUNK) };
        (bytes / self.longest()).clamp(rows, most) / rows * rows
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

    /// Tiles of sums of a task: two in turn, or all of its rows and columns where the depth is in blocks.
    fn tiles(&self) -> usize {
        let rows = self.chunk().min(self.m).div_ceil(self.form.rows[self.panels() - 1]);
        if self.blocks() == 1 { 2 } else { rows * self.n.div_ceil(PANEL).div_ceil(self.form.rows.len()) }
    }

    /// Bytes of the copied rows of a task.
    fn copies(&self) -> usize {
        (self.chunk().min(self.m).next_multiple_of(self.together()) * self.longest()).next_multiple_of(64)
    }

    /// Bytes of panels that are made at a time: whole tiles.
    fn making(&self) -> usize {
        if self.form.made.is_some() { self.panels() * TILE * self.longest() } else { 0 }
    }
}

/// Depth of a block where panels are made.
const BLOCK: usize = 1024;
/// Bytes of copied rows that stay in the second cache beside a tile's panels.
const COPIES: usize = 384 << 10;
/// The same where tiles are: such processors have two megabytes.
const TILES: usize = 1280 << 10;
/// Bytes of a tile.
const BYTES: usize = TILE * LINE;
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
        (0, self.copies() + BYTES + 2 * self.making() + self.tiles() * self.tile() + self.epilogue.scratch())
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let groups = self.n.div_ceil(PANEL).div_ceil(self.form.rows.len());
        let rows = self.form.rows[self.panels() - 1];
        let mut chunks = self.m.div_ceil(self.chunk());
        let mut parts = 1;
        let enough = if cx.pool.threads() == 1 { 1 } else { 2 * cx.pool.threads() };
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
        cx.pool.run(self.batch.len() * chunks * parts, &|task, thread| unsafe {
            let (b, chunk, columns) = (task / (chunks * parts), task / parts % chunks, task % parts);
            let tiles = part(self.m.div_ceil(rows), chunks, chunk);
            let range = tiles.start * rows..(tiles.end * rows).min(self.m);
            self.rows(arguments.get(), b, range, (part(groups, parts, columns), groups), cx.own(thread));
        });
    }
}

impl Copied {
    /// A range of rows times some of the groups of panels.
    unsafe fn rows(&self, args: &[*mut u8], batch: usize, range: Range<usize>, (some, groups): (Range<usize>, usize), own: *mut u8) {
        let Form { group, parts, tiled, made, shape, multiply, .. } = self.form;
        let making = own.wrapping_add(self.copies());
        let making = making.wrapping_add(making.align_offset(BYTES));
        let sums = making.wrapping_add(2 * self.making());
        let scratch = sums.wrapping_add(self.tiles() * self.tile());
        let a = args[0].wrapping_offset(self.batch[batch] as isize * self.form.from as isize).cast_const();
        let all = self.n.div_ceil(PANEL);
        let end = |sums: Sums| unsafe { self.end(sums, (args, a.cast()), batch, scratch) };
        let (mut waiting, mut shaped, blocks) = (None, 0, self.blocks());
        let place = |g: usize, block: usize| {
            let (panels, depth) = (part(all, groups, g), self.groups(block));
            let from = args[1].cast_const().wrapping_add((batch * all + panels.start) * self.panel);
            let begin = depth.start * group * PANEL * 4;
            let bytes = if blocks == 1 { self.panel } else { (depth.end * group).min(self.k) * PANEL * 4 - begin };
            Panels { from: from.wrapping_add(begin), count: panels.len(), bytes, stride: self.panel }
        };
        // Panels that were made during others, and in which of two places.
        let (mut ready, mut which, whole) = (false, 0, self.k.is_multiple_of(group));
        for block in 0..blocks {
            let depth = self.groups(block);
            let (steps, row, mut turn) = (depth.len(), self.row(depth.len()), 0);
            unsafe { self.copy(a, range.clone(), depth.start * group..(depth.end * group).min(self.k), (own, row)) };
            for g in some.clone() {
                let (panels, lying) = (part(all, groups, g), place(g, block));
                let width = panels.len();
                let places = [which, 1 - which].map(|i| making.wrapping_add(i * self.making()));
                let (b, panel) = match made {
                    Some(make) => {
                        if !ready {
                            unsafe { lying.make(make, places[0]) };
                        }
                        (places[0].cast_const(), TILE * row)
                    }
                    None => (lying.from, self.panel),
                };
                let most = self.form.rows[width - 1];
                let count = range.len().div_ceil(most);
                let share = |t: usize| if tiled { t * most..range.len().min((t + 1) * most) } else { part(range.len(), count, t) };
                let next = if g + 1 < some.end { Some((g + 1, block)) } else { Some((some.start, block + 1)).filter(|n| n.1 < blocks) };
                let next = next.map(|(g, block)| place(g, block));
                for (t, rows) in (0..count).map(share).enumerate() {
                    let tile = sums.wrapping_add(if blocks == 1 { turn % 2 } else { turn } * self.tile());
                    let (ahead, rest) = match &next {
                        Some(next) if made.is_none() => (next.fetched((t, count), steps), 0..0),
                        Some(next) if whole => next.made((t, count), parts, places[1]),
                        _ => (ahead::NONE, 0..0),
                    };
                    let (copied, height) = (own.wrapping_add(rows.start * row), rows.len());
                    if tiled && block + 1 == blocks {
                        let rows = range.start + rows.start..range.start + rows.end;
                        self.epilogue.fetch(batch, rows, panels.start * PANEL, width * PANEL, args);
                    }
                    unsafe {
                        shape.filter(|_| height != shaped).inspect(|shape| shape(height));
                        let (a, row) = (copied, self.together() * row);
                        multiply(&Factors { a, row, groups: steps, rows: height, b, panel, panels: width, tile, adds: block > 0, ahead });
                        if let (Some(make), Some(next)) = (made, &next) {
                            next.some(make, rest, places[1]);
                        }
                    }
                    (turn, shaped) = (turn + 1, height);
                    if block + 1 == blocks {
                        // Sums that were just stored as tiles cannot be read at once: those before are, while these are made.
                        let sums = Sums { tile, rows: range.start + rows.start..range.start + rows.end, panels: panels.clone() };
                        waiting.replace(sums).map(end);
                    }
                }
                ready = whole && next.is_some();
                which = if ready { 1 - which } else { which };
            }
        }
        waiting.map(end);
        shape.inspect(|shape| unsafe { shape(0) });
    }

    /// Copies some of the depth of rows, to rows of so many bytes.
    unsafe fn copy(&self, a: *const u8, range: Range<usize>, some: Range<usize>, (to, bytes): (*mut u8, usize)) {
        let Form { from, group, zero, copy, .. } = self.form;
        let depth = self.k / self.taps.max(1);
        for (r, row) in range.enumerate() {
            let begin = to.wrapping_add(self.begin(r, bytes));
            for tap in some.start / depth.max(1)..some.end.div_ceil(depth.max(1)) {
                let start = some.start.max(tap * depth);
                let n = some.end.min((tap + 1) * depth) - start;
                let first = start - some.start;
                match self.table[row * self.taps + tap] {
                    OUTSIDE => unsafe { self.fill(begin, first..first + n, zero) },
                    offset => {
                        let at = offset as isize + (start - tap * depth) as isize;
                        unsafe { copy(a.wrapping_offset(at * from as isize), n, begin, first) }
                    }
                }
            }
            // What is beyond the depth meets weights of zero.
            unsafe { self.fill(begin, some.len()..some.len().next_multiple_of(group), 0) };
        }
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
        pub(super) unsafe fn $name(f: &$crate::cpu::copied::Factors) {
            match (f.rows, f.panels) {
                $($(($m, $n) => unsafe { $body::<$m, $n>(f.a, f.row, f.groups, f.b, f.panel, f.tile) },)*)*
                _ => debug_assert!(false, "no kernel for {} rows and {} panels", f.rows, f.panels),
            }
        }
    };
    ($name:ident = $body:ident) => {
        sizes!($name = $body by [1 2 3 4 5 6 7 8] 1, [1 2 3 4 5 6 7 8] 2, [1 2 3 4 5 6 7 8] 3, [1 2 3 4 5 6] 4);
    };
}
pub(super) use sizes;
