//! Accesses as the kernels evaluate them: a linear function of the loops, and an index to check where a bound may interrupt it.

use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Ty};
use std::collections::BTreeMap;
use wpk_plan::View;
use wpk_plan::problem::{Access, Contraction, Roles};

/// Whether every offset of a contraction fits registers of 32 bits.
pub fn small(c: &Contraction) -> bool {
    let views = [c.a.view(), c.b.view(), c.out.view.clone()];
    views.iter().chain(c.extras.iter().map(|e| &e.view)).all(|v| v.span().is_some_and(|s| s.1 < 1 << 30))
}

/// An index that may leave its dimension.
#[derive(Debug, Clone)]
pub struct Check {
    offset: i64,
    pub per_loop: Vec<i64>,
    extent: usize,
    divisor: i64,
    /// Elements between neighbours where the divisor keeps the index out of the linear part, else 0.
    stride: i64,
}

/// How elements are found: `base + sum(per_loop[l] * loop l)`, subject to the checks.
#[derive(Debug, Clone)]
pub struct Linear {
    pub base: i64,
    pub per_loop: Vec<i64>,
    pub checks: Vec<Check>,
    pub space: Vec<usize>,
}

/// The contribution of some loops at one point: to the offset, and to each check.
#[derive(Debug, Clone)]
pub struct Term {
    pub offset: Val,
    pub checks: Vec<Val>,
}

impl Check {
    /// That a sum over the loops is below an extent.
    pub fn below(extent: usize, per_loop: Vec<i64>) -> Self {
        Self { offset: 0, per_loop, extent, divisor: 1, stride: 0 }
    }
}

impl Linear {
    pub fn access(access: &Access, space: &[usize]) -> Self {
        let mut linear = Self { base: access.offset as i64, per_loop: vec![0; space.len()], checks: vec![], space: space.to_vec() };
        for d in &access.dims {
            let mut per_loop = vec![0; space.len()];
            let (mut low, mut high) = (d.index.offset, d.index.offset);
            for &(l, c) in &d.index.terms {
                per_loop[usize::from(l)] += c;
                let reach = c * (space[usize::from(l)] as i64 - 1);
                (low, high) = (low + reach.min(0), high + reach.max(0));
            }
            let whole = d.index.divisor == 1;
            if whole {
                linear.base += d.index.offset * d.stride;
                linear.per_loop.iter_mut().zip(&per_loop).for_each(|(l, c)| *l += c * d.stride);
            }
            if !whole || low < 0 || high >= d.extent as i64 {
                let stride = if whole { 0 } else { d.stride };
                linear.checks.push(Check { offset: d.index.offset, per_loop, extent: d.extent, divisor: d.index.divisor, stride });
            }
        }
        linear
    }

    /// A view over the first loops of a space.
    pub fn view(view: &View, space: &[usize]) -> Self {
        let mut per_loop = view.strides.clone();
        per_loop.resize(space.len(), 0);
        Self { base: view.offset as i64, per_loop, checks: vec![], space: space.to_vec() }
    }

    /// The second factor of a contraction as [`Roles::pack`] lays it out, over loops of its own: batch, panel, column, depth.
    pub fn panels(roles: &Roles) -> Self {
        let panel = wpk_plan::problem::PANEL;
        let (panels, depth) = (roles.count(&roles.n).div_ceil(panel), roles.count(&roles.k()));
        let sizes = [panels * depth * panel, depth * panel, 1, panel];
        Self {
            base: 0,
            per_loop: sizes.map(|n| n as i64).to_vec(),
            checks: vec![],
            space: vec![roles.count(&roles.batch), panels, panel, depth],
        }
    }

    /// The second factor of a contraction as [`Roles::columns`] lays it out, over loops of its own: batch, column, depth.
    pub fn columns(roles: &Roles, size: usize) -> Self {
        let (columns, depth) = (roles.count(&roles.n), roles.column_len(size));
        Self {
            base: 0,
            per_loop: [columns * depth, depth, 1].map(|n| n as i64).to_vec(),
            checks: vec![],
            space: vec![roles.count(&roles.batch), columns, depth],
        }
    }

    /// Whether some of the loops move it or its checks.
    pub fn uses(&self, loops: &[usize]) -> bool {
        loops.iter().any(|&l| self.space[l] > 1 && (self.per_loop[l] != 0 || self.checks.iter().any(|c| c.per_loop[l] != 0)))
    }

    /// Elements from each point of some loops, in row-major order, to the next; `None` where that is not the same everywhere.
    pub fn step(&self, loops: &[usize]) -> Option<i64> {
        let mut moving = loops.iter().rev().filter(|&&l| self.space[l] > 1);
        let Some(&last) = moving.next() else { return Some(1) };
        let whole = |l: usize| self.per_loop[l].checked_mul(self.space[l] as i64);
        let mut next = whole(last)?;
        for &l in moving {
            if self.per_loop[l] != next {
                return None;
            }
            next = whole(l)?;
        }
        Some(self.per_loop[last])
    }

    /// Whether `n` neighbours along the last of `loops` lie together, begin at a multiple of `n`, and are valid together.
    pub fn together(&self, loops: &[usize], n: usize) -> bool {
        let Some(&last) = loops.iter().rev().find(|&&l| self.space[l] > 1) else { return false };
        let unchecked = self.checks.iter().all(|c| c.per_loop[last] == 0 && c.stride % n as i64 == 0);
        let aligned = (0..self.space.len()).all(|l| l == last || self.space[l] == 1 || self.per_loop[l] % n as i64 == 0);
        self.per_loop[last] == 1 && self.space[last].is_multiple_of(n) && unchecked && aligned && self.base % n as i64 == 0
    }

    /// What the loops contribute at their point number `x`, the last loop fastest.
    pub fn term(&self, k: &mut Writer, x: Val, loops: &[usize]) -> Term {
        Term {
            offset: weighted(k, x, loops, &self.space, &self.per_loop),
            checks: self.checks.iter().map(|c| weighted(k, x, loops, &self.space, &c.per_loop)).collect(),
        }
    }

    /// A term at the point number `point` of some loops, beside what it has of others.
    pub fn at(&self, k: &mut Writer, term: &Term, point: usize, loops: &[usize]) -> Term {
        let mut rest = point;
        let mut coordinates: Vec<(usize, i64)> = vec![];
        for &l in loops.iter().rev() {
            coordinates.push((l, (rest % self.space[l]) as i64));
            rest /= self.space[l];
        }
        let moved = |weights: &[i64]| coordinates.iter().map(|&(l, x)| weights[l] * x).sum();
        let offset = k.plus(term.offset, moved(&self.per_loop));
        Term { offset, checks: self.checks.iter().zip(&term.checks).map(|(c, &index)| k.plus(index, moved(&c.per_loop))).collect() }
    }

    /// The constant part.
    pub fn start(&self, k: &mut Writer) -> Term {
        Term { offset: k.int(self.base, Ty::S32), checks: self.checks.iter().map(|c| k.int(c.offset, Ty::S32)).collect() }
    }

    /// Whether every index is in bounds, and what divided indices add to the offset.
    pub fn resolve(&self, k: &mut Writer, term: &Term) -> (Option<Val>, Val) {
        let (mut inside, mut offset) = (None, term.offset);
        for (check, &index) in self.checks.iter().zip(&term.checks) {
            let mut index = index;
            if check.divisor > 1 {
                let (quotient, remainder) = k.div_rem(Val { ty: Ty::U32, ..index }, check.divisor as u32);
                let zero = k.int(0, Ty::U32);
                let whole = k.compare(Cmp::Eq, remainder, zero);
                let negative = k.int(-1, Ty::S32);
                let positive = k.compare(Cmp::Lt, negative, index);
                inside = k.both(inside, Some(whole));
                inside = k.both(inside, Some(positive));
                index = Val { ty: Ty::S32, ..quotient };
                let moved = k.scaled(index, check.stride);
                offset = k.add(offset, moved);
            }
            // As an unsigned number a negative index is beyond every extent.
            let within = k.below(Val { ty: Ty::U32, ..index }, check.extent as i64);
            inside = k.both(inside, Some(within));
        }
        (inside, offset)
    }
}

/// Accesses that lie constant ways behind one start: one address serves them all, and an index is compared once for every way it is moved by.
pub struct Near<'a> {
    linear: &'a Linear,
    start: Term,
    /// Comparisons by check and by what moves the index.
    inside: BTreeMap<(usize, i64), Val>,
}

impl<'a> Near<'a> {
    /// Behind some start; `None` where indices are divided.
    pub fn new(linear: &'a Linear, start: &Term) -> Option<Self> {
        let whole = linear.checks.iter().all(|c| c.divisor == 1);
        whole.then(|| Self { linear, start: start.clone(), inside: BTreeMap::new() })
    }

    /// Whether every index is in bounds when it is moved so.
    pub fn inside(&mut self, k: &mut Writer, moved: &[i64]) -> Option<Val> {
        let mut all = None;
        for (at, (check, &by)) in self.linear.checks.iter().zip(moved).enumerate() {
            let index = self.start.checks[at];
            let within = *self.inside.entry((at, by)).or_insert_with(|| {
                let index = k.plus(index, by);
                k.below(Val { ty: Ty::U32, ..index }, check.extent as i64)
            });
            all = k.both(all, Some(within));
        }
        all
    }
}

impl Term {
    pub fn plus(&self, k: &mut Writer, other: &Self) -> Self {
        Self {
            offset: k.add(self.offset, other.offset),
            checks: self.checks.iter().zip(&other.checks).map(|(&a, &b)| k.add(a, b)).collect(),
        }
    }

    /// The same where `valid` holds; else its first check fails, whatever is added to it. Without a check the predicate remains.
    pub fn only_where(mut self, k: &mut Writer, valid: Option<Val>) -> (Self, Option<Val>) {
        let (Some(p), Some(&first)) = (valid, self.checks.first()) else { return (self, valid) };
        let never = k.int(-(1 << 30), Ty::S32);
        self.checks[0] = k.select(p, first, never);
        (self, None)
    }
}

/// `sum(weight[l] * loop l)` at point number `x` of some loops; loops whose weights continue each other are not taken apart.
pub fn weighted(k: &mut Writer, x: Val, loops: &[usize], space: &[usize], weight: &[i64]) -> Val {
    // Groups of neighbouring loops as extent and weight, outermost first.
    let mut groups: Vec<(usize, i64)> = vec![];
    for &l in loops.iter().filter(|&&l| space[l] > 1) {
        match groups.last_mut() {
            Some((extent, w)) if *w == weight[l] * space[l] as i64 => (*extent, *w) = (*extent * space[l], weight[l]),
            _ => groups.push((space[l], weight[l])),
        }
    }
    let mut sum = k.int(0, Ty::S32);
    let mut rest = x;
    for (i, &(extent, w)) in groups.iter().enumerate().rev() {
        let at = if i == 0 {
            rest
        } else {
            let (quotient, remainder) = k.div_rem(rest, extent as u32);
            rest = quotient;
            remainder
        };
        let term = k.scaled(Val { ty: Ty::S32, ..at }, w);
        sum = k.add(sum, term);
    }
    sum
}

/// A number as coordinates of some loops, the last fastest.
pub fn split(k: &mut Writer, x: Val, loops: &[usize], space: &[usize], coordinates: &mut [Val]) {
    let mut rest = x;
    for (i, &l) in loops.iter().enumerate().rev() {
        if i == 0 {
            coordinates[l] = rest;
        } else {
            (rest, coordinates[l]) = k.div_rem(rest, space[l] as u32);
        }
    }
}
