//! Where the sums of products on tensor cores belong: a warp's rectangle of the output.

use super::Unsupported;
use super::fragments::{exchange, first_column};
use super::output::{self, Rectangle};
use super::partial::{Partial, Shares};
use super::tile::Lanes;
use crate::dsl::{Val, Writer};
use crate::ptx::{Kernel, Ty};
use wpk_plan::problem::{Contraction, Roles};

/// A rectangle of windows of an image, which are the rows of a tile.
#[derive(Clone, Copy)]
pub struct Patch {
    /// Rows and columns of windows.
    pub extents: [u32; 2],
    /// Those of the image.
    pub windows: [u32; 2],
    /// How many there are in all images.
    pub all: u32,
    pub image: Val,
    /// The first window's row and column.
    pub corner: [Val; 2],
}

impl Patch {
    /// The number of a row of the tile among all windows; one that none has where there is no such window.
    pub fn number(&self, k: &mut Writer, row: Val) -> Val {
        let (down, across) = k.div_rem(row, self.extents[1]);
        let inside = k.below(down, i64::from(self.extents[0]));
        let at = [k.add(self.corner[0], down), k.add(self.corner[1], across)];
        let within = [0, 1].map(|side| k.below(at[side], i64::from(self.windows[side])));
        let within = k.both(Some(within[0]), Some(within[1]));
        let inside = k.both(Some(inside), within);
        let number = k.scaled(self.image, i64::from(self.windows[0]));
        let number = k.add(number, at[0]);
        let number = k.scaled(number, i64::from(self.windows[1]));
        let number = k.add(number, at[1]);
        let none = k.int(i64::from(self.all), Ty::U32);
        inside.map_or(number, |inside| k.select(inside, number, none))
    }
}

/// A warp's sums: blocks of 16 rows, four sums for every 8 columns of each (see [`crate::ptx::Stmt::Mma`]). What is left of a grid that
/// was shared out may be half a block.
#[derive(Clone, Copy)]
pub struct Grid<'a> {
    pub c: &'a Contraction,
    pub roles: &'a Roles,
    pub rows: u32,
    pub columns: u32,
    /// Rows from one block to the next.
    pub apart: u32,
    /// The warp's first row and column.
    pub firsts: [Val; 2],
    /// Of which windows rows of a tile are sums, where those are no neighbours.
    pub patch: Option<Patch>,
    pub batch: Val,
    pub lane: Val,
    /// See [`Lanes`].
    pub by_lane: Option<Lanes>,
    /// See [`Rectangle::ahead`].
    pub ahead: usize,
    /// Whether all rows, and all columns, of every tile exist.
    pub whole: (bool, bool),
}

impl Grid<'_> {
    /// Tiles of 8 columns whose sums lanes exchange.
    fn tiles(&self) -> u32 {
        (self.columns / 8).min(4)
    }

    /// Ends a kernel whose warps have these sums, as tensor cores hold them.
    pub fn finish(&self, mut k: Writer, name: &str, own: &Partial, sums: &[Val]) -> Result<Kernel, Unsupported> {
        let Some((shares, meeting)) = own.cluster else {
            let sums = self.neighbours(&mut k, &self.pairs(sums, &Shares::ALL));
            return own.finish(k, name, &sums, |k, sums| self.store(k, sums));
        };
        let sums = own.meet_in_cluster(&mut k, meeting, &self.pairs(sums, &shares).concat());
        let pairs: Vec<[Val; 2]> = sums.chunks(2).map(|s| [s[0], s[1]]).collect();
        let share = self.share(&mut k, &shares, own.part);
        let sums = share.neighbours(&mut k, &pairs);
        share.store(&mut k, &sums)?;
        Ok(k.finish(name, own.operands, own.threads, own.tiles * own.split))
    }

    /// Stores these sums where the kernel goes on.
    pub fn end(&self, k: &mut Writer, sums: &[Val]) -> Result<(), Unsupported> {
        let sums = self.neighbours(k, &self.pairs(sums, &Shares::ALL));
        self.store(k, &sums)
    }

    /// The sums of two neighbouring columns, by share, row and 8 columns.
    fn pairs(&self, sums: &[Val], shares: &Shares) -> Vec<[Val; 2]> {
        let across = self.columns / 8;
        let (rows, columns) = (self.rows / 8 / shares.rows, across / shares.columns);
        let each = |n: u32, of: u32| n * of..(n + 1) * of;
        let share = (0..shares.rows).flat_map(|r| (0..shares.columns).map(move |c| (r, c)));
        let places = share.flat_map(|(r, c)| each(r, rows).flat_map(move |row| each(c, columns).map(move |column| (row, column))));
        let pair = |(row, column)| {
            let at = (4 * (row / 2 * across + column) + row % 2 * 2) as usize;
            [sums[at], sums[at + 1]]
        };
        places.map(pair).collect()
    }

    /// A share of the grid.
    fn share(&self, k: &mut Writer, shares: &Shares, number: Val) -> Self {
        let (row, column) = k.div_rem(number, shares.columns);
        let (rows, columns) = (self.rows / shares.rows, self.columns / shares.columns);
        let down = if rows == 8 {
            let (block, half) = k.div_rem(row, 2);
            let (block, half) = (k.scaled(block, i64::from(self.apart)), k.scaled(half, 8));
            k.add(block, half)
        } else {
            k.scaled(row, i64::from(rows / 16 * self.apart))
        };
        let across = k.scaled(column, i64::from(columns));
        Self { rows, columns, firsts: [k.add(self.firsts[0], down), k.add(self.firsts[1], across)], ..*self }
    }

    /// The sums by row, with neighbouring columns in one lane.
    fn neighbours(&self, k: &mut Writer, pairs: &[[Val; 2]]) -> Vec<Val> {
        if self.by_lane.is_some() {
            return pairs.concat();
        }
        pairs.chunks(self.tiles() as usize).flat_map(|own| exchange(k, self.lane, own)).collect()
    }

    /// The number of a row so many behind another of the tile.
    fn row(&self, k: &mut Writer, row: Val, behind: u32) -> Val {
        let row = k.plus(row, i64::from(behind));
        self.patch.map_or(row, |patch| patch.number(k, row))
    }

    fn store(&self, k: &mut Writer, sums: &[Val]) -> Result<(), Unsupported> {
        let tiles = self.tiles();
        let (g, _) = k.div_rem(self.lane, 4);
        let row = k.add(self.firsts[0], g);
        let (column, group) = match self.by_lane {
            Some(lanes) => {
                let (_, t) = k.div_rem(self.lane, 4);
                (k.scaled(t, i64::from(lanes.0)), lanes.0)
            }
            None => (first_column(k, self.lane, tiles), 2 * tiles),
        };
        let column = k.add(self.firsts[1], column);
        let rectangle = Rectangle {
            ahead: self.ahead,
            batch: self.batch,
            rows: (0..self.rows / 8).map(|i| self.row(k, row, i / 2 * self.apart + i % 2 * 8)).collect(),
            columns: (0..self.columns).step_by(4 * group as usize).map(|j| k.plus(column, i64::from(j))).collect(),
            group: group as usize,
            whole: self.whole,
        };
        let rows: Vec<Vec<Val>> = sums.chunks(self.columns as usize / 4).map(<[Val]>::to_vec).collect();
        output::store(k, self.c, self.roles, &rectangle, &rows)
    }
}
