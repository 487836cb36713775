//! [AffineGrid](https://onnx.ai/onnx/operators/onnx__AffineGrid.html): the points of a regular grid in [-1, 1], moved by a matrix for each image.

use super::context::unsigned;
use super::mat_mul::matmul;
use super::{Context, Imported, OpDef};
use crate::graph::Literal;

pub(super) const OP: OpDef = OpDef { name: "AffineGrid", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let theta = cx.input(0)?;
    let size = unsigned(&cx.constant(1, "size")?.ok_or("there is no size")?.to_ints(), "size")?;
    let (Some(&batch), true) = (size.first(), (4..=5).contains(&size.len())) else {
        return Err(format!("size {size:?} is neither of images nor of volumes").into());
    };
    let extents = &size[2..];
    let rank = extents.len();
    if cx.shape(theta) != [batch, rank, rank + 1] {
        return Err(format!("matrices of {:?} do not fit size {size:?}", cx.shape(theta)).into());
    }
    let count = extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e)).filter(|n| *n <= 1 << 26);
    let count = count.ok_or_else(|| format!("size {size:?} is too large"))?;
    let corners = cx.attrs.flag("align_corners", false);
    let place = |i: usize, n: usize| match (corners, n) {
        (true, 1) => 0.0,
        (true, _) => 2.0 * i as f64 / (n - 1) as f64 - 1.0,
        (false, _) => (2 * i + 1) as f64 / n as f64 - 1.0,
    };
    // Columns x, y (and z), 1: the last dimension first.
    let mut points = Vec::with_capacity(count * (rank + 1));
    for point in 0..count {
        let mut rest = point;
        for &n in extents.iter().rev() {
            points.push(place(rest % n, n));
            rest /= n;
        }
        points.push(1.0);
    }
    let points = cx.b.constant(Literal::floats(cx.dtype(theta), &[count, rank + 1], &points));
    let theta = cx.b.transpose(theta, &[0, 2, 1])?;
    let grid = matmul(cx, points, theta)?;
    Ok(vec![cx.b.reshape(grid, &[&[batch], extents, &[rank]].concat())?])
}
