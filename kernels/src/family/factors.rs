//! A contraction as a matrix product: its extents, and where its factors are.

use super::affine::Linear;
use super::tile::Source;
use wpk_plan::WeightLayout;
use wpk_plan::problem::{Contraction, Roles};

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
        dtype: c.dtype,
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
            Source { param: 1, dtype: c.dtype, linear, batch: vec![0], lines: vec![1], depth: vec![2] }
        }
        // Pairs and quads are for CPUs, and levels have a family of their own.
        _ => {
            let linear = Linear::panels(&roles);
            Source { param: 1, dtype: c.dtype, linear, batch: vec![0], lines: vec![1, 2], depth: vec![3] }
        }
    };
    [a, b]
}
