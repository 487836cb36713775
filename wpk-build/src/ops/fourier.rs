//! What the Fourier transforms share: a product with a matrix of roots of unity.

use super::mat_mul::matmul;
use super::{Context, Refusal};
use crate::graph::{Literal, ValueId};
use std::f64::consts::TAU;

/// Elements of the largest matrix.
const LIMIT: usize = 1 << 24;

/// A transform of some length.
#[derive(Clone, Copy)]
pub(super) struct Transform {
    /// Points.
    pub length: usize,
    /// Back from frequencies.
    pub inverse: bool,
    /// Whether of the frequencies of real signals only the first half is there.
    pub one_sided: bool,
}

impl Transform {
    /// Applies it along a dimension of a tensor whose last dimension holds real parts, or real and imaginary parts.
    pub fn along(self, cx: &mut Context<'_>, x: ValueId, axis: usize) -> Result<ValueId, Refusal> {
        let shape = cx.shape(x);
        let (rank, parts) = (shape.len(), shape.last().copied().unwrap_or(0));
        if axis + 1 >= rank || !(1..=2).contains(&parts) {
            return Err(format!("{shape:?} holds no signals along dimension {axis}").into());
        }
        let taken = shape[axis].min(if self.inverse && self.one_sided { self.length / 2 + 1 } else { self.length });
        let (count, into) = match (self.inverse, self.one_sided) {
            (false, true) => (self.length / 2 + 1, 2),
            (true, true) => (self.length, 1),
            _ => (self.length, 2),
        };
        let (rows, columns) = (taken * parts, count * into);
        if self.length == 0 || rows.checked_mul(columns).is_none_or(|n| n > LIMIT) {
            return Err(format!("a transform of {} points is not supported", self.length).into());
        }
        let mut matrix = vec![0.0; rows * columns];
        for (i, row) in matrix.chunks_mut(columns).enumerate() {
            for (j, element) in row.iter_mut().enumerate() {
                *element = self.element((i / parts, i % parts), (j / into, j % into));
            }
        }
        let matrix = cx.b.constant(Literal::floats(cx.dtype(x), &[rows, columns], &matrix));
        let before = cx.b.range(x, axis, 0, taken)?;
        let mut perm: Vec<usize> = (0..rank).filter(|&d| d != axis && d != rank - 1).collect();
        let lead: Vec<usize> = perm.iter().map(|&d| shape[d]).collect();
        perm.extend([axis, rank - 1]);
        let turned = cx.b.transpose(before, &perm)?;
        let flat = cx.b.reshape(turned, &[lead.iter().product(), rows])?;
        let y = matmul(cx, flat, matrix)?;
        let y = cx.b.reshape(y, &[lead.as_slice(), &[count, into]].concat())?;
        Ok(cx.b.transpose(y, &crate::graph::invert(&perm))?)
    }

    /// What part `p` of point `i` gives to part `q` of point `j`.
    fn element(self, (i, p): (usize, usize), (j, q): (usize, usize)) -> f64 {
        let n = self.length;
        let angle = TAU * ((i * j) % n) as f64 / n as f64;
        let (sign, scale) = if self.inverse { (1.0, 1.0 / n as f64) } else { (-1.0, 1.0) };
        // Frequencies that are left out are the conjugates of those that are there.
        let twice = self.inverse && self.one_sided && i != 0 && 2 * i != n;
        let value = match (p, q) {
            (0, 0) | (1, 1) => angle.cos(),
            (0, _) => sign * angle.sin(),
            _ => -sign * angle.sin(),
        };
        scale * value * if twice { 2.0 } else { 1.0 }
    }
}
