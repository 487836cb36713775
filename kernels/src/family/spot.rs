//! Where the results of a thread lie among all: some rows of some steps of neighbours.

use super::affine::{Linear, Term, split, weighted};
use crate::dsl::{Val, Writer};
use crate::ptx::Ty;
use std::ops::Range;
use wpk_plan::problem::Contraction;

/// The two loops before the innermost one that moves, rows and steps.
pub fn before(c: &Contraction) -> [Option<usize>; 2] {
    let mut moving = (0..c.outer).rev().filter(|&l| c.space[l] > 1).skip(1);
    let steps = moving.next();
    [moving.next(), steps]
}

/// The first point of a thread: its numbers among those of four groups of loops, those before rows, rows, steps and all others.
pub struct Spot {
    parts: [(Range<usize>, Val); 4],
}

impl Spot {
    /// Threads follow each other along rows' loop, where windows share most, before they do along steps'.
    pub fn of(k: &mut Writer, c: &Contraction, thread: Val, (n, counts): (usize, [u32; 2])) -> Self {
        let none = k.int(0, Ty::U32);
        if counts == [1, 1] {
            let point = k.scaled(thread, n as i64);
            return Self { parts: [(0..0, none), (0..0, none), (0..0, none), (0..c.outer, point)] };
        }
        let [rows, steps] = before(c);
        let step = steps.unwrap_or(0);
        let row = rows.unwrap_or(step);
        let loops = [0..row, row..rows.map_or(row, |l| l + 1), step..steps.map_or(step, |l| l + 1), steps.map_or(0, |l| l + 1)..c.outer];
        let together = [1, counts[0] as usize, counts[1] as usize, n];
        let mut parts = loops.map(|loops| (loops, none));
        let mut left: Vec<usize> = [3, 1, 2, 0].into_iter().filter(|&i| points(c, &parts[i].0) > together[i]).collect();
        let last = left.pop();
        let mut rest = thread;
        for i in left {
            let at;
            (rest, at) = k.div_rem(rest, (points(c, &parts[i].0) / together[i]) as u32);
            parts[i].1 = k.scaled(at, together[i] as i64);
        }
        if let Some(i) = last {
            parts[i].1 = k.scaled(rest, together[i] as i64);
        }
        Self { parts }
    }

    /// The point that lies so many rows, steps and neighbours behind.
    pub fn moved(&self, k: &mut Writer, [row, step]: [i64; 2], neighbour: usize) -> Self {
        let by = [0, row, step, neighbour as i64];
        let mut parts = self.parts.clone();
        parts.iter_mut().zip(by).for_each(|(part, by)| part.1 = k.plus(part.1, by));
        Self { parts }
    }

    /// What the loops contribute by their weights.
    pub fn weighted(&self, k: &mut Writer, space: &[usize], weights: &[i64]) -> Val {
        self.parts.iter().fold(k.int(0, Ty::S32), |sum, (loops, x)| {
            let part = weighted(k, *x, &loops.clone().collect::<Vec<_>>(), space, weights);
            k.add(sum, part)
        })
    }

    /// What the loops contribute to an access.
    pub fn term(&self, k: &mut Writer, linear: &Linear) -> Term {
        Term {
            offset: self.weighted(k, &linear.space, &linear.per_loop),
            checks: linear.checks.iter().map(|check| self.weighted(k, &linear.space, &check.per_loop)).collect(),
        }
    }

    /// By loop, where the point is.
    pub fn coordinates(&self, k: &mut Writer, space: &[usize]) -> Vec<Val> {
        let mut all = vec![k.int(0, Ty::U32); space.len()];
        for (loops, x) in &self.parts {
            split(k, *x, &loops.clone().collect::<Vec<_>>(), space, &mut all);
        }
        all
    }
}

/// Points of some loops.
fn points(c: &Contraction, loops: &Range<usize>) -> usize {
    c.space[loops.clone()].iter().product()
}
