//! [DFT](https://onnx.ai/onnx/operators/onnx__DFT.html): the discrete Fourier transform along a dimension, and its inverse.

use super::fourier::Transform;
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "DFT", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let first = |l: crate::graph::Literal| l.to_ints().first().copied();
    let axis = match cx.constant(2, "axis")?.and_then(first) {
        Some(axis) => axis,
        None => cx.attrs.int("axis").unwrap_or(if cx.opset < 20 { 1 } else { -2 }),
    };
    let axis = cx.axis(axis, shape.len())?;
    let (inverse, one_sided) = (cx.attrs.flag("inverse", false), cx.attrs.flag("onesided", false));
    let length = match cx.constant(1, "dft_length")?.and_then(first) {
        Some(n) => usize::try_from(n).map_err(|_| format!("a transform of {n} points is not possible"))?,
        None if inverse && one_sided => 2 * shape[axis].saturating_sub(1),
        None => shape[axis],
    };
    Ok(vec![Transform { length, inverse, one_sided }.along(cx, x, axis)?])
}
