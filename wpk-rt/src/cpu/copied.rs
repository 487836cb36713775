//! Contractions whose first factor is copied tile by tile into the form that instructions multiply: rounded to bfloat16 or shifted to
//! unsigned bytes, the rows of a window one after another. The second factor lies in that form in panels.

use super::contraction::{CHUNK, OUTSIDE, row_table, runs};
use super::epilogue::Epilogue;
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
    /// Elements that are multiplied at a time: rows are filled up to a multiple.
    pub(super) group: usize,
    /// Rows of a tile, by its panels.
    pub(super) rows: &'static [usize],
    /// Bytes of a panel of the second factor.
    pub(super) panel: fn(&Roles) -> usize,
    /// The bytes of an element that stands for zero.
    pub(super) zero: u8,
    /// Copies neighbours: from, how many, to.
    pub(super) copy: unsafe fn(*const u8, usize, *mut u8),
    /// Sums of products: rows, bytes of one, groups, how many rows, the first panel, bytes of one, how many panels, the tile of four-byte
    /// sums with [`STRIDE`] in a row.
    pub(super) multiply: Multiply,
}

/// See [`Form::multiply`].
pub(super) type Multiply = unsafe fn(*const u8, usize, usize, usize, *const u8, usize, usize, *mut u8);

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
    Some(Box::new(Copied { form, panel: (form.panel)(&roles), batch, m, n, k, taps: k / depth, table, epilogue }))
}

impl Copied {
    /// Bytes of a copied row.
    fn row(&self) -> usize {
        self.k.next_multiple_of(self.form.group) * self.form.to
    }

    /// Rows that are copied at once, for all their columns: as many as stay in the second cache.
    fn chunk(&self) -> usize {
        let rows = self.form.rows[self.panels() - 1];
        (COPIES / self.row()).clamp(rows, CHUNK) / rows * rows
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
        (self.chunk().min(self.m) * self.row()).next_multiple_of(64)
    }
}

/// Bytes of copied rows that stay in the second cache beside a tile's panels.
const COPIES: usize = 384 << 10;

impl Bound for Copied {
    fn scratch(&self) -> (usize, usize) {
        (0, self.copies() + self.tile() + self.epilogue.scratch())
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
        cx.pool.run(self.batch.len() * chunks * parts, &|task, thread| unsafe {
            let (b, chunk, columns) = (task / (chunks * parts), task / parts % chunks, task % parts);
            let tiles = part(self.m.div_ceil(rows), chunks, chunk);
            let range = tiles.start * rows..(tiles.end * rows).min(self.m);
            self.rows(arguments.get(), b, range, part(groups, parts, columns), groups, cx.own(thread));
        });
    }
}

impl Copied {
    /// A range of rows times some of the groups of panels.
    unsafe fn rows(&self, args: &[*mut u8], batch: usize, range: Range<usize>, some: Range<usize>, groups: usize, own: *mut u8) {
        let Form { from, to, zero, .. } = self.form;
        let tile = own.wrapping_add(self.copies());
        let scratch = tile.wrapping_add(self.tile());
        let element = |offset: i64| offset as isize * from as isize;
        let a = args[0].wrapping_offset(element(self.batch[batch])).cast_const();
        let (all, panel, depth) = (self.n.div_ceil(PANEL), self.panel, self.k / self.taps.max(1));
        for (r, row) in range.clone().enumerate() {
            let copied = own.wrapping_add(r * self.row());
            for tap in 0..self.taps {
                let at = copied.wrapping_add(tap * depth * to);
                match self.table[row * self.taps + tap] {
                    OUTSIDE => unsafe { std::ptr::write_bytes(at, zero, depth * to) },
                    offset => unsafe { (self.form.copy)(a.wrapping_offset(element(offset.into())), depth, at) },
                }
            }
            // What is beyond the depth meets weights of zero.
            unsafe { std::ptr::write_bytes(copied.add(self.k * to), 0, self.row() - self.k * to) }
        }
        for panels in some.map(|g| part(all, groups, g)) {
            let b = args[1].wrapping_add((batch * all + panels.start) * panel).cast_const();
            let (width, column) = (panels.len(), panels.start * PANEL);
            let columns = (self.n - column).min(width * PANEL);
            let count = range.len().div_ceil(self.form.rows[width - 1]);
            for rows in (0..count).map(|t| part(range.len(), count, t)) {
                let (copied, height) = (own.wrapping_add(rows.start * self.row()), rows.len());
                unsafe {
                    (self.form.multiply)(copied, self.row(), self.row() / (self.form.group * to), height, b, panel, width, tile);
                    self.epilogue.store(tile.cast(), batch, range.start + rows.start, height, column, columns, args, scratch);
                }
            }
        }
    }
}

/// Lists a kernel of a number of rows and panels by both.
macro_rules! sizes {
    ($name:ident = $body:ident by $([$($m:literal)*] $n:literal),*) => {
        pub(super) unsafe fn $name(a: *const u8, row: usize, groups: usize, rows: usize, b: *const u8, panel: usize, panels: usize, tile: *mut u8) {
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
