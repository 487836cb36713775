//! Online softmax (Milakov and Gimelshein 2018): what each row of attention has seen so far, and how its results are stored.

use super::affine::{Linear, weighted};
use super::attention::Facts;
use super::fragments::{exchange, first_column};
use super::{math, scalar};
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, MemTy, Op, Ty};
use wpk_plan::problem::Attention;

/// What each row has seen so far; by half: rows g and g + 8.
pub struct State {
    /// The largest exponent.
    largest: [Val; 2],
    /// The lane's part of the sum of weights.
    pub sums: [Val; 2],
    /// Sums of weighted values: four for 16 rows and 8 columns.
    pub results: Vec<Val>,
}

/// A value of each of the four lanes that share a row, combined.
fn across_row(k: &mut Writer, x: Val, combine: impl Fn(&mut Writer, Val, Val) -> Val) -> Val {
    [1, 2].into_iter().fold(x, |x, mask| {
        let other = k.op(Ty::F32, Op::ShuffleXor(mask), &[x]);
        combine(k, x, other)
    })
}

/// Values combined in two chains, which do not wait for each other.
fn by_two(k: &mut Writer, values: impl Iterator<Item = Val>, combine: impl Fn(&mut Writer, Val, Val) -> Val) -> Val {
    let mut chains = [None; 2];
    for (i, x) in values.enumerate() {
        let chain = &mut chains[i % 2];
        *chain = Some(chain.map_or(x, |all| combine(k, all, x)));
    }
    let [a, b] = chains;
    a.zip(b).map(|(a, b)| combine(k, a, b)).or(a).unwrap_or_else(|| k.float(0.0, Ty::F32))
}

fn larger(k: &mut Writer, a: Val, b: Val) -> Val {
    k.extreme(true, a, b)
}

impl State {
    /// Nothing seen, for results of `width` columns.
    pub fn new(k: &mut Writer, width: u32) -> Self {
        let (nothing, least) = (k.float(0.0, Ty::F32), k.float(f64::NEG_INFINITY, Ty::F32));
        let results = (0..width / 2).map(|_| k.variable(nothing)).collect();
        Self { largest: [0, 1].map(|_| k.variable(least)), sums: [0, 1].map(|_| k.variable(nothing)), results }
    }

    /// Sums over the keys of every lane of a row; each lane has added its own.
    pub fn finish(&self, k: &mut Writer) {
        for sum in self.sums {
            let total = across_row(k, sum, Writer::add);
            k.assign(sum, total);
        }
    }

    /// Takes in exponents, which are still to be multiplied by a positive scale where there is one: rescales what was before, and returns the
    /// weights.
    pub fn update(&self, k: &mut Writer, logits: &[Val], scale: Option<Val>) -> Vec<Val> {
        let mut references = vec![];
        for half in 0..2 {
            let own = logits.iter().enumerate().filter(|(i, _)| i % 4 / 2 == half).map(|l| *l.1);
            let most = by_two(k, own, larger);
            let most = across_row(k, most, larger);
            let most = scale.map_or(most, |s| k.mul(most, s));
            let most = larger(k, self.largest[half], most);
            // Where every score so far is the logarithm of zero, nothing is subtracted.
            let (least, zero) = (k.float(f64::NEG_INFINITY, Ty::F32), k.float(0.0, Ty::F32));
            let none = k.compare(Cmp::Eq, most, least);
            let reference = k.select(none, zero, most);
            let shift = k.sub(self.largest[half], reference);
            let factor = k.op(Ty::F32, Op::Exp2, &[shift]);
            k.assign(self.largest[half], most);
            k.update(self.sums[half], Op::Mul, &[self.sums[half], factor]);
            for &r in self.results.iter().enumerate().filter(|(i, _)| i % 4 / 2 == half).map(|r| r.1) {
                k.update(r, Op::Mul, &[r, factor]);
            }
            references.push(scale.map_or(reference, |_| k.sub(zero, reference)));
        }
        let mut weights = vec![];
        let mut sums = [[None; 2]; 2];
        for (i, &x) in logits.iter().enumerate() {
            let half = i % 4 / 2;
            let shifted = match scale {
                Some(scale) => k.fma(x, scale, references[half]),
                None => k.sub(x, references[half]),
            };
            let weight = k.op(Ty::F32, Op::Exp2, &[shifted]);
            let sum = &mut sums[half][i % 2];
            *sum = Some(sum.map_or(weight, |sum| k.add(sum, weight)));
            weights.push(weight);
        }
        for (&total, sums) in self.sums.iter().zip(sums) {
            let own = by_two(k, sums.into_iter().flatten(), Writer::add);
            k.update(total, Op::Add, &[total, own]);
        }
        weights
    }

    /// The results with neighbouring columns in one lane: by half, by group of columns.
    pub fn neighbours(&self, k: &mut Writer, lane: Val, width: u32) -> [Vec<Vec<Val>>; 2] {
        let tiles = group(width);
        [0, 1].map(|half| {
            let pairs: Vec<[Val; 2]> =
                (0..width as usize / 8).map(|tile| [2 * half, 2 * half + 1].map(|i| self.results[4 * tile + i])).collect();
            pairs.chunks(tiles as usize).map(|own| exchange(k, lane, own)).collect()
        })
    }
}

/// Tiles of 8 columns whose results lanes exchange.
fn group(width: u32) -> u32 {
    if width.is_multiple_of(32) { 4 } else { 2 }
}

/// Where a warp's results go.
pub struct Place<'a> {
    pub p: &'a Attention,
    pub f: &'a Facts,
    pub head: Val,
    /// The block's first row, and the warp's in it.
    pub row: [Val; 2],
    pub lane: Val,
}

impl Place<'_> {
    /// Stores results by half and group of columns, over the sums of weights.
    pub fn store(&self, k: &mut Writer, outputs: &[Vec<Vec<Val>>; 2], sums: [Val; 2]) {
        let out = &self.p.out;
        let linear = Linear::view(&out.view, &out.view.shape);
        let start = linear.start(k);
        let outer = linear.term(k, self.head, &[0, 1]);
        let start = k.add(start.offset, outer.offset);
        let (g, _) = k.div_rem(self.lane, 4);
        let row = k.add(self.row[0], self.row[1]);
        let row = k.add(row, g);
        let (width, tiles) = (out.view.shape[3], group(self.f.width));
        let column = first_column(k, self.lane, tiles);
        let n = 2 * tiles as usize;
        let together = linear.together(&[3], n);
        let param = 3 + u32::from(self.p.mask.is_some());
        let one = k.float(1.0, Ty::F32);
        for half in 0..2 {
            let inverse = math::divide(k, one, sums[half]);
            let row = k.plus(row, 8 * half as i64);
            let exists = k.below(row, i64::from(self.f.queries));
            let at = weighted(k, row, &[2], &linear.space, &linear.per_loop);
            let line = k.add(start, at);
            for (i, values) in outputs[half].iter().enumerate() {
                let values: Vec<Val> = values.iter().map(|&v| k.op(Ty::F32, Op::Mul, &[v, inverse])).collect();
                let first = k.plus(column, (i * 8 * tiles as usize) as i64);
                let (step, count) = if together { (n, 1) } else { (1, n) };
                for j in 0..count {
                    let at = k.plus(first, j as i64);
                    let inside = if width == self.f.width as usize { None } else { Some(k.below(at, width as i64)) };
                    let inside = k.both(Some(exists), inside).unwrap_or(exists);
                    let moved = weighted(k, at, &[3], &linear.space, &linear.per_loop);
                    let place = k.add(line, moved);
                    let address = k.element(param, place, out.dtype.bytes());
                    k.when(inside, |k| scalar::store_neighbours(k, out.dtype, address, 0, &values[j * step..(j + 1) * step]));
                }
            }
        }
    }
}

/// Results of warps with the same queries: each leaves its own in shared memory, the first adds them in order.
pub fn meet(
    k: &mut Writer,
    parts: u32,
    place: &Place<'_>,
    (shared, warp, part): (Val, Val, Val),
    state: &State,
    outputs: &[Vec<Vec<Val>>; 2],
) {
    let flat: Vec<Val> = outputs.iter().flatten().flatten().copied().collect();
    let words = flat.len() + 4;
    // A lane's words lie a warp apart, so that its neighbours' lie beside them.
    let pitch = 32 * 4;
    let lane_byte = k.scaled(place.lane, 4);
    let warp_byte = k.scaled(warp, (words * pitch) as i64);
    let own = k.add(shared, warp_byte);
    let own = k.add(own, lane_byte);
    let kept: Vec<Val> = state.largest.iter().chain(&state.sums).chain(&flat).copied().collect();
    for (i, &v) in kept.iter().enumerate() {
        k.store_at(MemTy::F32, own, (i * pitch) as i32, &[v]);
    }
    k.barrier();
    let zero = k.int(0, Ty::U32);
    let first = k.compare(Cmp::Eq, part, zero);
    k.when(first, |k| {
        let at = |other: u32, i: usize| ((other as usize * words + i) * pitch) as i32;
        let read = |k: &mut Writer, other: u32, i: usize| k.load_at(MemTy::F32, Ty::F32, own, at(other, i), 1)[0];
        let (mut sums, mut totals) = ([place.lane; 2], [vec![], vec![]]);
        let per_half = flat.len() / 2;
        for half in 0..2 {
            let mut most = read(k, 0, half);
            for other in 1..parts {
                let x = read(k, other, half);
                most = larger(k, most, x);
            }
            let (least, nothing) = (k.float(f64::NEG_INFINITY, Ty::F32), k.float(0.0, Ty::F32));
            let none = k.compare(Cmp::Eq, most, least);
            let reference = k.select(none, nothing, most);
            let mut sum = nothing;
            let mut total = vec![nothing; per_half];
            for other in 0..parts {
                let x = read(k, other, half);
                let shift = k.sub(x, reference);
                let factor = k.op(Ty::F32, Op::Exp2, &[shift]);
                let part = read(k, other, 2 + half);
                sum = k.fma(part, factor, sum);
                for (i, t) in total.iter_mut().enumerate() {
                    let x = read(k, other, 4 + half * per_half + i);
                    *t = k.fma(x, factor, *t);
                }
            }
            sums[half] = sum;
            totals[half] = total.chunks(2 * group(place.f.width) as usize).map(<[Val]>::to_vec).collect();
        }
        place.store(k, &totals, sums);
    });
}
