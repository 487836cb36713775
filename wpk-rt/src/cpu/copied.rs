//! Contractions whose first factor is copied tile by tile into the form that instructions multiply, or becomes so as it is read ([`super::in_place`]): rounded to bfloat16 or shifted to
//! unsigned bytes, the rows of a window one after another, or as a sum of several parts. The second factor lies in that form in panels, or is made
//! so block by block of the depth.

use super::ahead::{Ahead, Make};
use super::chain::ByRows;
use super::contraction::{CHUNK, runs};
use super::epilogue::Epilogue;
use super::in_place::{InPlace, Reads};
use super::microkernel::{Direct, STRIDE};
use super::places::{reach, row_table};
use super::task::Task;
use super::{Args, Bound, Cx, Shared, Transformed, part};
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
    /// Whether the rows are four tiles of equal height, by kernels that make panels themselves, step by step (`tall.rs`).
    pub(super) tall: bool,
    /// Whether what is copied into a line of a tile fills it up with zeros; those behind it come later.
    pub(super) to_end: bool,
    /// Bytes of a panel before its first tile, of tiles in which panels may end: those that do are copied, zeros behind them.
    pub(super) cut: Option<usize>,
    /// Rows of a tile, by its panels.
    pub(super) rows: &'static [usize],
    /// Bytes of a panel of the second factor, as it lies in the plan.
    pub(super) panel: fn(&Roles) -> usize,
    /// The bytes of an element that stands for zero.
    pub(super) zero: u8,
    /// Copies neighbours into a row: from, how many, where the row begins, and the first one's place in it.
    pub(super) copy: unsafe fn(*const u8, usize, *mut u8, usize),
    /// Makes sums of products.
    pub(super) multiply: unsafe fn(&Factors<'_>),
    /// Whether sums may go to memory at once.
    pub(super) direct: bool,
    /// How rows are read where they lie: instead of elements a row has the places of its runs.
    pub(super) in_place: Option<Reads>,
    /// Tells the machine how many rows are multiplied from now on, of tiles; none at the end.
    pub(super) shape: Option<unsafe fn(usize)>,
    /// Makes panels of the plan's in `f32`, where those do not lie in the form. Sums that are not finite are then computed again, by those in `f32`.
    pub(super) made: Option<Make>,
}

/// What is multiplied.
pub(super) struct Factors<'a> {
    /// Rows: the first, bytes of one or of sixteen in tiles, runs and groups of one, and how many.
    pub(super) a: *const u8,
    pub(super) row: usize,
    pub(super) runs: usize,
    pub(super) groups: usize,
    pub(super) rows: usize,
    /// Panels: the first, bytes of one, and how many.
    pub(super) b: *const u8,
    pub(super) panel: usize,
    pub(super) panels: usize,
    /// The last tile of each of two panels, where panels end within one: see [`Form::cut`].
    #[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code, reason = "of tiles alone"))]
    pub(super) ends: [*const u8; 2],
    /// Four-byte sums with [`STRIDE`] in a row, and whether they are added to, where panels are made.
    pub(super) tile: *mut u8,
    #[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code, reason = "of tiles alone"))]
    pub(super) adds: bool,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "of this machine's kernels alone"))]
    pub(super) ahead: Ahead,
    /// Where sums go instead of the tile, from a row on.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "of this machine's kernels alone"))]
    pub(super) direct: Option<(&'a Direct, usize)>,
}

#[cfg(target_arch = "x86_64")]
impl Factors<'_> {
    /// Where a run of some rows begins, which are copied or in their places.
    #[inline(always)]
    pub(super) unsafe fn rows_of<const M: usize, const PLACES: bool>(&self, run: usize) -> [*const u8; M] {
        let mut rows = [self.a; M];
        for r in 0..M {
            rows[r] = self.a.wrapping_add(r * self.row);
            if PLACES {
                rows[r] = unsafe { *rows[r].cast::<*const u8>().add(run) };
            }
        }
        rows
    }
}

/// A product of copied rows.
pub(super) struct Copied {
    pub(super) form: Form,
    /// Bytes of a panel as it lies.
    pub(super) panel: usize,
    pub(super) batch: Vec<i64>,
    m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) taps: usize,
    /// `offset[row][tap]`, then contiguous.
    pub(super) table: Vec<i32>,
    pub(super) in_place: Option<InPlace>,
    pub(super) epilogue: Epilogue,
}

/// For a contraction whose second factor lies in panels of a form.
pub(super) fn bind(c: &Contraction, mut form: Form, small: bool) -> Option<Copied> {
    let roles = c.roles();
    let (taps, depth) = runs(c, &roles);
    let (m, n, k) = (roles.count(&roles.m), roles.count(&roles.n), roles.count(&roles.k()));
    let batch = roles.offsets(&c.a, &roles.batch)?;
    let table = row_table(c, &roles.m, &taps)?;
    let epilogue = Epilogue::new(c, &roles.batch, &roles.m, &roles.n)?;
    let taps = k / depth;
    let groups = n.div_ceil(PANEL).div_ceil(form.rows.len());
    let in_place = form.in_place.filter(|reads| k <= reads.most.0 && groups <= reads.most.1).and_then(|reads| {
        let found = InPlace::new(reads, form.from, depth, (&table, &batch), small)?;
        form.multiply = reads.multiply;
        Some(found)
    });
    let panel = in_place.as_ref().map_or_else(|| (form.panel)(&roles), |in_place| in_place.panel(taps));
    Some(Copied { form, panel, batch, m, n, k, taps, table, in_place, epilogue })
}

impl Copied {
    /// Blocks of the depth: where panels are made, so many that those of a block stay in the second cache beside its rows.
    pub(super) fn blocks(&self) -> usize {
        let most = if self.form.made.is_some() { BLOCK } else { usize::MAX };
        self.k.div_ceil(most).max(1)
    }

    /// Groups of a block of a row.
    pub(super) fn groups(&self, block: usize) -> Range<usize> {
        let all = self.in_place.as_ref().map_or(self.k.div_ceil(self.form.group), |in_place| in_place.groups(self.taps));
        part(all, self.blocks(), block)
    }

    /// Bytes of so many groups of a copied row; of tiles, what a row adds to them. Of a row that is read where it lies, those of its places.
    pub(super) fn row(&self, groups: usize) -> usize {
        match self.in_place {
            Some(_) => self.taps * size_of::<*const u8>(),
            None => groups * self.form.group * self.form.to * self.form.parts,
        }
    }

    /// Bytes of a block of a copied row, at most.
    fn longest(&self) -> usize {
        self.row(self.k.div_ceil(self.form.group).div_ceil(self.blocks()))
    }

    /// Rows of a tile, of so many in all.
    pub(super) fn height(&self, rows: usize) -> usize {
        if self.form.tall { rows.div_ceil(self.form.rows[0] / TILE) } else { TILE }
    }

    /// Rows that lie together.
    pub(super) fn together(&self) -> usize {
        if self.form.tiled { TILE } else { 1 }
    }

    /// Rows that are copied at once, for all their columns: as many as stay in the second cache. A thread alone takes more, and reads weights from
    /// memory less often.
    fn chunk(&self, alone: bool) -> usize {
        let rows = self.form.rows[self.panels() - 1];
        let bytes = match (self.form.tiled, alone) {
            (true, _) => TILES,
            (false, true) => ALONE,
            (false, false) => COPIES,
        };
        (bytes / self.longest()).clamp(rows, 2 * CHUNK.next_multiple_of(rows)) / rows * rows
    }

    /// The panels that are read.
    fn weights(&self, args: &[*mut u8]) -> *const u8 {
        let plain = args[1].cast_const();
        let count = self.batch.len() * self.n.div_ceil(PANEL);
        self.in_place.as_ref().map_or(plain, |in_place| in_place.panels(plain, count, self.taps))
    }

    /// Groups of panels.
    fn columns(&self) -> usize {
        self.n.div_ceil(PANEL).div_ceil(self.form.rows.len())
    }

    /// Most panels of a tile.
    fn panels(&self) -> usize {
        let panels = self.n.div_ceil(PANEL);
        panels.div_ceil(panels.div_ceil(self.form.rows.len()))
    }

    /// Bytes of a tile of sums.
    pub(super) fn tile(&self) -> usize {
        self.form.rows.iter().max().unwrap_or(&0) * STRIDE * 4
    }

    /// Tiles of sums of a task: two in turn, or all of its rows and columns where the depth is in blocks.
    pub(super) fn tiles(&self) -> usize {
        let rows = self.chunk(true).min(self.m).div_ceil(self.form.rows[self.panels() - 1]);
        if self.blocks() == 1 { 2 } else { rows * self.columns().min(COLUMNS) }
    }

    /// Bytes of the copied rows of a task.
    pub(super) fn copies(&self) -> usize {
        let rows = if self.form.tall { self.form.rows[0] } else { self.chunk(true).min(self.m).next_multiple_of(self.together()) };
        (rows * self.longest()).next_multiple_of(64) + if self.in_place.is_some() { InPlace::COPIES } else { 0 }
    }

    /// Bytes of panels that are made at a time: whole tiles, or a step.
    pub(super) fn making(&self) -> usize {
        let row = if self.form.tall { self.row(1) } else { self.longest() };
        if self.form.made.is_some() { self.panels() * TILE * row } else { 0 }
    }
}

/// Depth of a block where panels are made.
const BLOCK: usize = 1024;
/// Groups of panels of a task whose sums wait for the next block.
const COLUMNS: usize = 64;
/// Bytes of copied rows that stay in the second cache beside a tile's panels.
const COPIES: usize = 640 << 10;
/// Those of a thread alone.
const ALONE: usize = 1280 << 10;
/// The same where tiles are: such processors have two megabytes.
const TILES: usize = 1280 << 10;
/// Bytes of a tile.
pub(super) const BYTES: usize = TILE * LINE;
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

    unsafe fn prepare(&self, args: &[*mut u8], known: &mut Transformed) {
        if let Some(in_place) = self.in_place.as_ref().filter(|_| !args[1].is_null()) {
            in_place.prepare(args[1].cast_const(), self.batch.len() * self.n.div_ceil(PANEL), self.taps, known);
        }
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let weights = Shared(self.weights(args).cast_mut());
        let groups = self.columns();
        let rows = self.form.rows[self.panels() - 1];
        let threads = cx.pool.threads();
        let mut chunks = self.m.div_ceil(self.chunk(threads == 1));
        // Every chunk reads all weights, so there are as few as keep every thread busy.
        if self.batch.len() == 1 && chunks > 1 {
            chunks = chunks.next_multiple_of(threads).min(self.m.div_ceil(rows));
        }
        let mut parts = if self.blocks() == 1 { 1 } else { groups.div_ceil(COLUMNS) };
        let enough = threads;
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
            let rows = tiles.start * rows..(tiles.end * rows).min(self.m);
            let some = part(groups, parts, columns);
            Task { product: self, args: arguments.get(), weights: weights.get(), batch: b, rows, some, groups, own: cx.own(thread) }.run();
        });
    }
}

impl ByRows for Copied {
    fn rows(&self) -> (usize, usize) {
        (self.m, 1)
    }

    fn reach(&self, rows: &Range<usize>) -> Range<usize> {
        reach(&self.table[rows.start * self.taps..rows.end * self.taps], self.k / self.taps)
    }

    fn own(&self) -> usize {
        self.scratch().1
    }

    unsafe fn prepare(&self, args: &[*mut u8], known: &mut Transformed) {
        unsafe { Bound::prepare(self, args, known) }
    }

    unsafe fn some(&self, args: &[*mut u8], rows: Range<usize>, own: *mut u8) {
        let (weights, groups, tall) = (self.weights(args), self.columns(), self.form.rows[self.panels() - 1]);
        let chunks = rows.len().div_ceil(self.chunk(true));
        for tiles in (0..chunks).map(|i| part(rows.len().div_ceil(tall), chunks, i)) {
            let rows = rows.start + tiles.start * tall..(rows.start + tiles.end * tall).min(rows.end);
            unsafe { Task { product: self, args, weights, batch: 0, rows, some: 0..groups, groups, own }.run() }
        }
    }
}

/// Lists a kernel of a number of rows and panels by both.
macro_rules! sizes {
    ($name:ident = $body:ident by $([$($m:literal)*] $n:literal),*) => {
        pub(super) unsafe fn $name(f: &$crate::cpu::copied::Factors<'_>) {
            match (f.rows, f.panels) {
                $($(
                    ($m, $n) if f.ahead.lines == 0 => unsafe { $body::<$m, $n, false>(f) },
                    ($m, $n) => unsafe { $body::<$m, $n, true>(f) },
                )*)*
                _ => debug_assert!(false, "no kernel for {} rows and {} panels", f.rows, f.panels),
            }
        }
    };
    ($name:ident = $body:ident) => {
        sizes!($name = $body by [1 2 3 4 5 6 7 8] 1, [1 2 3 4 5 6 7 8] 2, [1 2 3 4 5 6 7 8] 3, [1 2 3 4 5 6] 4);
    };
}
pub(super) use sizes;
