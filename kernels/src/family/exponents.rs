//! Scores of attention as exponents of two: scaled, with what a mask adds, without keys that do not exist.

use super::affine::Linear;
use super::scalar;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Op, Ty};
use std::f64::consts::LOG2_E;
use wpk_plan::problem::{Attention, Operand};

/// How a lane makes exponents of its scores, which are four for 16 rows and 8 columns.
pub struct Exponents<'a> {
    mask: Option<Mask<'a>>,
    /// By what they are multiplied.
    by: Val,
    /// What that is left to: nothing is added to such exponents.
    pub scale: Option<Val>,
    /// The lane's first column in a tile.
    column: Val,
    /// Keys of a tile, keys in all, and whether all tiles are full.
    count: u32,
    keys: u32,
    whole: bool,
}

impl<'a> Exponents<'a> {
    /// For the rows of the head that begin at two numbers together, and tiles of so many keys.
    pub fn new(
        k: &mut Writer,
        p: &'a Attention,
        (head, first_row, own_row, lane): (Val, Val, Val, Val),
        (count, whole): (u32, bool),
    ) -> Self {
        let row = k.add(first_row, own_row);
        let (g, t) = k.div_rem(lane, 4);
        let row = k.add(row, g);
        let mask = p.mask.as_ref().map(|o| Mask::new(k, o, (head, row), p.q.view.shape[2] as u32));
        let by = k.float(p.scale * LOG2_E, Ty::F32);
        let scale = (mask.is_none() && p.scale > 0.0).then_some(by);
        Self { mask, by, scale, column: k.scaled(t, 2), count, keys: p.k.view.shape[2] as u32, whole }
    }

    /// What is added to the scores of the keys from the first on.
    pub fn added(&self, k: &mut Writer, first: Val) -> Option<Vec<[Val; 4]>> {
        let column = k.add(first, self.column);
        self.mask.as_ref().map(|m| m.read(k, column, self.count, (self.keys, self.whole)))
    }

    /// The exponents of scores; the least there is where a key does not exist.
    pub fn of(&self, k: &mut Writer, scores: &[Val], added: Option<Vec<[Val; 4]>>, first: Val) -> Vec<Val> {
        let (least, log2e) = (k.float(f64::NEG_INFINITY, Ty::F32), k.float(LOG2_E, Ty::F32));
        let column = k.add(first, self.column);
        let mut all = vec![];
        for (i, &score) in scores.iter().enumerate() {
            let mut x = match &added {
                Some(added) => {
                    let added = k.op(Ty::F32, Op::Mul, &[added[i / 4][i % 4], log2e]);
                    k.fma(score, self.by, added)
                }
                None if self.scale.is_some() => score,
                None => k.mul(score, self.by),
            };
            if !self.whole {
                let at = k.plus(column, (8 * (i / 4) + i % 2) as i64);
                let exists = k.below(at, i64::from(self.keys));
                x = k.select(exists, x, least);
            }
            all.push(x);
        }
        all
    }
}

/// Where a lane's elements of the mask are.
struct Mask<'a> {
    operand: &'a Operand,
    linear: Linear,
    /// By half, what batch, head and row contribute.
    rows: [Val; 2],
}

impl<'a> Mask<'a> {
    fn new(k: &mut Writer, operand: &'a Operand, (head, row): (Val, Val), queries: u32) -> Self {
        let linear = Linear::view(&operand.view, &operand.view.shape);
        let start = linear.start(k);
        let outer = linear.term(k, head, &[0, 1]);
        let start = k.add(start.offset, outer.offset);
        let rows = [0, 8].map(|i| {
            let row = k.plus(row, i);
            // Rows that do not exist read the last one's mask.
            let last = k.int(i64::from(queries) - 1, Ty::U32);
            let beyond = k.compare(Cmp::Lt, last, row);
            let row = k.select(beyond, last, row);
            let at = linear.term(k, row, &[2]);
            k.add(start, at.offset)
        });
        Self { operand, linear, rows }
    }

    /// The elements of both rows at two neighbouring keys, of each of the tiles of eight keys, so many keys in all.
    fn read(&self, k: &mut Writer, column: Val, count: u32, (keys, whole): (u32, bool)) -> Vec<[Val; 4]> {
        let same = !self.linear.uses(&[2]);
        let rows: Vec<Vec<[Val; 2]>> =
            self.rows[..if same { 1 } else { 2 }].iter().map(|&row| self.pairs(k, row, column, count, (keys, whole))).collect();
        let lower = rows.last().unwrap_or(&rows[0]);
        rows[0].iter().zip(lower).map(|(a, b)| [a[0], a[1], b[0], b[1]]).collect()
    }

    fn pairs(&self, k: &mut Writer, row: Val, column: Val, count: u32, (keys, whole): (u32, bool)) -> Vec<[Val; 2]> {
        let (dtype, size) = (self.operand.dtype, self.operand.dtype.bytes());
        let step = self.linear.per_loop[3];
        let address = |k: &mut Writer, at: Val| {
            let moved = self.linear.term(k, at, &[3]);
            let at = k.add(row, moved.offset);
            k.element(3, at, size)
        };
        // Keys begin at even numbers.
        let together = self.linear.together(&[3], 2);
        let load = |k: &mut Writer, from: Val, offset: i64, n| scalar::load_neighbours(k, dtype, from, offset as i32, n);
        let first = whole.then(|| address(k, column));
        let tiles = (0..i64::from(count / 8)).map(|tile| 8 * tile);
        let last = k.int(i64::from(keys) - 1, Ty::U32);
        let pairs = tiles.map(|behind| {
            let one = |k: &mut Writer, i: i64| {
                if let Some(first) = first {
                    return (first, (behind + i) * step * size as i64);
                }
                let at = k.plus(column, behind + i);
                // Keys that do not exist read the mask of the last one, or of its pair.
                let (end, at) = if together { (k.plus(last, -1), at) } else { (last, at) };
                let beyond = k.compare(Cmp::Lt, end, at);
                let at = k.select(beyond, end, at);
                (address(k, at), 0)
            };
            let (from, offset) = one(k, 0);
            if together {
                let pair = load(k, from, offset, 2);
                return [pair[0], pair[1]];
            }
            let low = load(k, from, offset, 1)[0];
            let (from, offset) = one(k, 1);
            [low, load(k, from, offset, 1)[0]]
        });
        pairs.collect()
    }
}
