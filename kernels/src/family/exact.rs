//! Sums that are not finite, computed again: as the sum of two parts an infinite factor would meet itself with another sign. A thread
//! that finds such a sum computes its own once more, product by product in `f32`, as slowly as simply.

use super::grid::Patch;
use super::tile::{Lanes, Source};
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, MemTy, Op, Ty};
use wpk_plan::Parts;

/// A warp's tile of sums: four for 16 rows and 8 columns, as tensor cores hold them.
pub struct Tile<'a> {
    pub sources: &'a [Source; 2],
    pub batch: Val,
    /// The warp's first row and column.
    pub firsts: [Val; 2],
    /// Groups of 8 columns.
    pub across: u32,
    pub lane: Val,
    /// See [`Grid::patch`](super::grid::Grid::patch).
    pub patch: Option<Patch>,
    /// The first depth, and how many there are at most.
    pub first: Val,
    pub depth: u32,
    /// How many of them are neighbours, and how far apart such runs begin, where not all are.
    pub runs: Option<(u32, u32)>,
    /// All depths.
    pub total: u32,
    /// The parts that the second source is one of.
    pub parts: Option<&'a Parts>,
    /// See [`Lanes`].
    pub by_lane: Option<Lanes>,
}

/// Replaces the sums of a thread of which one is not finite.
pub fn repair(k: &mut Writer, tile: &Tile<'_>, sums: &[Val]) {
    let nothing = k.float(0.0, Ty::F32);
    // A product with zero is zero, but for what is not finite. Several chains, since a thread waits for each of their links.
    let mut checks = [nothing; 4];
    for (i, &sum) in sums.iter().enumerate() {
        let check = &mut checks[i % 4];
        *check = k.fma(sum, nothing, *check);
    }
    let check = checks.into_iter().reduce(|all, check| k.add(all, check)).unwrap_or(nothing);
    let broken = k.compare(Cmp::Nan, check, check);
    k.when(broken, |k| again(k, tile, sums));
}

fn again(k: &mut Writer, tile: &Tile<'_>, sums: &[Val]) {
    let (g, t) = k.div_rem(tile.lane, 4);
    k.repeat_rolled(sums.len() as u32, |k, i| {
        let (rest, column) = k.div_rem(i, 2);
        let (rest, half) = k.div_rem(rest, 2);
        let (block, group) = k.div_rem(rest, tile.across);
        let parts = [(block, 16), (half, 8), (g, 1)];
        let row = parts.iter().fold(tile.firsts[0], |at, &(x, by)| {
            let moved = k.scaled(x, by);
            k.add(at, moved)
        });
        let row = tile.patch.map_or(row, |patch| patch.number(k, row));
        let column = match tile.by_lane {
            Some(lanes) => lanes.column(k, t, group, column),
            None => [(group, 8), (t, 2)].into_iter().fold(column, |at, (x, by)| {
                let moved = k.scaled(x, by);
                k.add(at, moved)
            }),
        };
        let column = k.add(tile.firsts[1], column);
        let nothing = k.float(0.0, Ty::F32);
        let sum = k.variable(nothing);
        let lines = [(0, row), (1, column)].map(|(side, line): (usize, Val)| {
            let source = &tile.sources[side];
            let start = source.linear.start(k);
            let batch = if side == 1 && tile.parts.is_some() { k.scaled(tile.batch, Parts::COUNT as i64) } else { tile.batch };
            let outer = source.linear.term(k, batch, &source.batch);
            let own = source.linear.term(k, line, &source.lines);
            let term = start.plus(k, &outer);
            let term = term.plus(k, &own);
            let count = source.lines.iter().map(|&l| source.linear.space[l]).product::<usize>();
            let exists = k.below(line, count as i64);
            (source, term, exists)
        });
        k.repeat_rolled(tile.depth, |k, d| {
            let at = match tile.runs {
                Some((length, apart)) => {
                    let (run, within) = k.div_rem(d, length);
                    let run = k.scaled(run, i64::from(apart));
                    k.add(run, within)
                }
                None => d,
            };
            let at = k.add(tile.first, at);
            let deep = k.below(at, i64::from(tile.total));
            let factors = [0, 1].map(|side: usize| {
                let (source, term, exists) = &lines[side];
                let parts = tile.parts.filter(|_| side == 1);
                let at = parts.map_or(at, |parts| place_in_parts(k, parts, at));
                let inner = source.linear.term(k, at, &source.depth);
                let point = term.plus(k, &inner);
                let (inside, place) = source.linear.resolve(k, &point);
                let valid = k.both(Some(*exists), Some(deep));
                let valid = k.both(valid, inside).unwrap_or(*exists);
                let x = k.variable(nothing);
                k.when(valid, |k| {
                    let loaded = if parts.is_some() { sum_of_parts(k, source, place) } else { float(k, source, place) };
                    k.assign(x, loaded);
                });
                x
            });
            k.update(sum, Op::Fma, &[factors[0], factors[1], sum]);
        });
        for (n, &one) in (0..).zip(sums) {
            let n = k.int(n, Ty::U32);
            let is = k.compare(Cmp::Eq, i, n);
            k.when(is, |k| k.assign(one, sum));
        }
    });
}

fn float(k: &mut Writer, source: &Source, place: Val) -> Val {
    let from = k.element(source.param, place, 4);
    k.load(MemTy::F32, Ty::F32, from, 1)[0]
}

/// Where a depth lies among parts: [`Parts::loops`], [`Parts::place`].
fn place_in_parts(k: &mut Writer, parts: &Parts, depth: Val) -> Val {
    let (mut rest, mut moved) = (depth, k.int(0, Ty::U32));
    for &(count, apart) in parts.loops.iter().rev() {
        let (next, own) = k.div_rem(rest, count as u32);
        let own = k.scaled(own, apart as i64);
        (rest, moved) = (next, k.add(moved, own));
    }
    let depth = if parts.loops.is_empty() { depth } else { moved };
    let (eights, within) = k.div_rem(depth, 8);
    let (four, one) = k.div_rem(within, 4);
    let (eights, ones) = (k.scaled(eights, 8), k.scaled(one, 2));
    let place = k.add(eights, ones);
    k.add(place, four)
}

/// The number at a place of the first part, the smallest part first.
fn sum_of_parts(k: &mut Writer, source: &Source, place: Val) -> Val {
    let part = source.linear.space[1] * source.linear.space[2];
    let (zero, sixteen) = (k.float(0.0, Ty::F32), k.int(16, Ty::U32));
    (0..Parts::COUNT).rev().fold(zero, |sum, i| {
        let at = k.plus(place, (i * part) as i64);
        let from = k.element(source.param, at, 2);
        let bits = k.load(MemTy::U16, Ty::U32, from, 1)[0];
        let bits = k.op(Ty::U32, Op::Shl, &[bits, sixteen]);
        let x = k.op(Ty::F32, Op::Bits(Ty::U32), &[bits]);
        k.add(sum, x)
    })
}
