//! Sums of products.

use super::scalar::{self, Value};
use super::{Data, Tensor};
use wpk_plan::problem::{Access, Contraction};

/// The index of each dimension of an access, split into the part of the reduction loops (tabulated) and the rest.
struct Table<'a> {
    access: &'a Access,
    /// By dimension, the reduction loops' part at every reduction point.
    inner: Vec<Vec<i64>>,
    /// By dimension, the range of that part.
    range: Vec<(i64, i64)>,
    /// The memory offset of those parts.
    offsets: Vec<i64>,
}

impl<'a> Table<'a> {
    fn new(c: &'a Contraction, access: &'a Access) -> Self {
        let count: usize = c.inner().iter().product();
        let mut inner = vec![Vec::with_capacity(count); access.dims.len()];
        let mut point = vec![0; c.space.len()];
        for _ in 0..count {
            for (d, part) in access.dims.iter().zip(&mut inner) {
                let terms = d.index.terms.iter().filter(|t| usize::from(t.0) >= c.outer);
                part.push(terms.map(|&(l, k)| k * point[usize::from(l)] as i64).sum());
            }
            advance(&mut point[c.outer..], c.inner());
        }
        let range = inner.iter().map(|p| (p.iter().min().copied().unwrap_or(0), p.iter().max().copied().unwrap_or(0))).collect();
        let offsets = (0..count).map(|r| access.dims.iter().zip(&inner).map(|(d, p)| d.stride * p[r]).sum()).collect();
        Self { access, inner, range, offsets }
    }

    /// The outer loops' part of each index.
    fn outer(&self, point: &[usize]) -> Vec<i64> {
        let part = |d: &wpk_plan::problem::AccessDim| {
            d.index
                .terms
                .iter()
                .filter(|t| usize::from(t.0) < point.len())
                .fold(d.index.offset, |s, &(l, k)| s + k * point[usize::from(l)] as i64)
        };
        self.access.dims.iter().map(part).collect()
    }

    /// The memory offset of the outer part where no reduction point needs a bound.
    fn base(&self, outer: &[i64]) -> Option<i64> {
        let mut base = self.access.offset as i64;
        for ((d, &o), &(low, high)) in self.access.dims.iter().zip(outer).zip(&self.range) {
            if d.index.divisor != 1 || o + low < 0 || o + high >= d.extent as i64 {
                return None;
            }
            base += d.stride * o;
        }
        Some(base)
    }

    fn at(&self, outer: &[i64], r: usize) -> Option<usize> {
        let mut at = self.access.offset as i64;
        for ((d, &o), inner) in self.access.dims.iter().zip(outer).zip(&self.inner) {
            let i = o + inner[r];
            let index = i / d.index.divisor;
            if i % d.index.divisor != 0 || !(0..d.extent as i64).contains(&index) {
                return None;
            }
            at += index * d.stride;
        }
        Some(at as usize)
    }
}

pub(super) fn eval(c: &Contraction, inputs: &[&Tensor], out: &mut [Tensor]) {
    let (a, b) = (Table::new(c, &c.a), Table::new(c, &c.b));
    let count = a.offsets.len();
    let mut point = vec![0; c.outer];
    let extras: Vec<Vec<usize>> = c.extras.iter().map(|e| e.view.offsets().collect()).collect();
    let mut values = vec![];
    for (o, at) in c.out.view.offsets().enumerate() {
        let (pa, pb) = (a.outer(&point), b.outer(&point));
        let sum = match (&inputs[0].data, &inputs[1].data) {
            (Data::Float(x), Data::Float(y)) => Value::F(match (a.base(&pa), b.base(&pb)) {
                (Some(i), Some(j)) => {
                    let terms = a.offsets.iter().zip(&b.offsets);
                    terms.map(|(p, q)| x[(i + p) as usize] * y[(j + q) as usize]).sum()
                }
                _ => (0..count).filter_map(|r| Some(x[a.at(&pa, r)?] * y[b.at(&pb, r)?])).sum(),
            }),
            _ => {
                let terms = (0..count).filter_map(|r| Some(inputs[0].i(a.at(&pa, r)?).wrapping_mul(inputs[1].i(b.at(&pb, r)?))));
                Value::I(c.sum.wrap(terms.fold(0, i64::wrapping_add)))
            }
        };
        let operand = |i: usize| match i {
            0 => sum,
            _ => super::map::value(inputs[i + 1], extras[i - 1][o]),
        };
        scalar::run(&c.epilogue, &operand, &point, &mut values);
        super::map::store(&mut out[0], at, values[usize::from(c.epilogue.outputs[0])]);
        advance(&mut point, &c.space[..c.outer]);
    }
}

/// The next point in row-major order.
pub(super) fn advance(point: &mut [usize], extents: &[usize]) {
    for (p, &n) in point.iter_mut().zip(extents).rev() {
        *p += 1;
        if *p < n {
            return;
        }
        *p = 0;
    }
}
