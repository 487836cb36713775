//! A contraction as a matrix product: its extents, and where its factors are.

use super::affine::Linear;
use super::tile::Source;
use wpk_plan::problem::{Contraction, Roles};
use wpk_plan::{DType, Parts, WeightLayout};

/// Extents of the matrix product that a contraction is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub batch: u32,
    pub m: u32,
    pub n: u32,
    pub k: u32,
}

impl Size {
    pub fn of(roles: &Roles) -> Self {
        let count = |loops: &[usize]| roles.count(loops) as u32;
        Self { batch: count(&roles.batch), m: count(&roles.m), n: count(&roles.n), k: count(&roles.k()) }
    }
}

/// The factors, as tiles are copied from them.
pub fn sources(c: &Contraction, layout: WeightLayout) -> [Source; 2] {
    let roles = c.roles();
    let (batch, depth) = (roles.batch.clone(), roles.k());
    let source = |param: u32, linear: Linear, lines: &[usize]| Source {
        param,
        dtype: if param == 0 { c.given } else { c.dtype },
        rounds: (param == 0 && c.given != c.dtype).then_some(c.dtype),
        linear,
        batch: batch.clone(),
        lines: lines.to_vec(),
        depth: depth.clone(),
    };
    let a = source(0, Linear::access(&c.a, &c.space), &roles.m);
    let b = match layout {
        WeightLayout::Dense => source(1, Linear::access(&c.b, &c.space), &roles.n),
        WeightLayout::Columns => {
            let linear = Linear::columns(&roles, c.dtype.bytes());
            Source { param: 1, dtype: c.dtype, rounds: None, linear, batch: vec![0], lines: vec![1], depth: vec![2] }
        }
        // Pairs and quads are for CPUs, and levels have a family of their own.
        _ => {
            let linear = Linear::panels(&roles);
            Source { param: 1, dtype: c.dtype, rounds: None, linear, batch: vec![0], lines: vec![1, 2], depth: vec![3] }
        }
    };
    [a, b]
}

/// The parts that a second factor in panels is given in.
pub fn parts(roles: &Roles) -> Parts {
    let [batch, columns, depth] = [&roles.batch, &roles.n, &roles.k()].map(|loops| roles.count(loops));
    Parts { argument: 1, batch, columns, depth, loops: vec![] }
}

/// Those as tiles are copied from them: a batch for every part of one.
pub fn source_of_parts(parts: &Parts) -> Source {
    let sizes = [parts.batch * Parts::COUNT, parts.columns, parts.pitch()];
    let per_loop = [sizes[1] * sizes[2], sizes[2], 1].map(|n| n as i64).to_vec();
    let linear = Linear { base: 0, per_loop, checks: vec![], space: sizes.to_vec() };
    Source { param: parts.argument, dtype: DType::BF16, rounds: None, linear, batch: vec![0], lines: vec![1], depth: vec![2] }
}
