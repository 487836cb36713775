//! Where the sums of products on tensor cores belong: a warp's rectangle of the output.

use super::Unsupported;
use super::fragments::{exchange, first_column};
use super::output::{self, Rectangle};
use crate::dsl::{Val, Writer};
use wpk_plan::problem::{Contraction, Roles};

/// A warp's sums: blocks of 16 rows, four sums for every 8 columns of each (see [`crate::ptx::Stmt::Mma`]).
pub struct Grid<'a> {
    pub c: &'a Contraction,
    pub roles: &'a Roles,
    pub rows: u32,
    pub columns: u32,
    /// Rows from one block to the next.
    pub apart: u32,
    /// The warp's first row and column.
    pub firsts: [Val; 2],
    pub batch: Val,
    pub lane: Val,
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

    /// The sums by row, with neighbouring columns in one lane.
    pub fn neighbours(&self, k: &mut Writer, sums: &[Val]) -> Vec<Val> {
        let tiles = self.tiles() as usize;
        let across = self.columns as usize / 8;
        let mut all = vec![];
        for block in 0..self.rows as usize / 16 {
            for half in 0..2 {
                for first in (0..across).step_by(tiles) {
                    let own: Vec<[Val; 2]> = (first..first + tiles)
                        .map(|tile| {
                            let at = 4 * (block * across + tile) + 2 * half;
                            [sums[at], sums[at + 1]]
                        })
                        .collect();
                    all.extend(exchange(k, self.lane, &own));
                }
            }
        }
        all
    }

    pub fn store(&self, k: &mut Writer, sums: &[Val]) -> Result<(), Unsupported> {
        let tiles = self.tiles();
        let (g, _) = k.div_rem(self.lane, 4);
        let row = k.add(self.firsts[0], g);
        let column = first_column(k, self.lane, tiles);
        let column = k.add(self.firsts[1], column);
        let rectangle = Rectangle {
            ahead: self.ahead,
            batch: self.batch,
            rows: (0..self.rows / 8).map(|i| k.plus(row, i64::from(i / 2 * self.apart + i % 2 * 8))).collect(),
            columns: (0..self.columns).step_by(8 * tiles as usize).map(|j| k.plus(column, i64::from(j))).collect(),
            group: 2 * tiles as usize,
            whole: self.whole,
        };
        let rows: Vec<Vec<Val>> = sums.chunks(self.columns as usize / 4).map(<[Val]>::to_vec).collect();
        output::store(k, self.c, self.roles, &rectangle, &rows)
    }
}
