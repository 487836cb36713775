//! [Softmax](https://onnx.ai/onnx/operators/onnx__Softmax.html): exponentials over their sum along an axis; before version 13 over all dimensions from it on.

use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "Softmax", import };

fn import(cx: &mut Context<'_>) -> Imported {
    softmax(cx, false)
}

/// Softmax or its logarithm.
pub(super) fn softmax(cx: &mut Context<'_>, log: bool) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    if cx.opset < 13 {
        let axis = cx.attrs.int("axis").unwrap_or(1);
        let axis = if axis == shape.len() as i64 { shape.len() } else { cx.axis(axis, shape.len())? };
        let flat = cx.b.reshape(x, &[shape[..axis].iter().product(), shape[axis..].iter().product()])?;
        let y = cx.b.one(Op::Softmax { log }, &[flat])?;
        return Ok(vec![cx.b.reshape(y, &shape)?]);
    }
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), shape.len())?;
    let (last, back) = cx.b.to_last(x, axis)?;
    let y = cx.b.one(Op::Softmax { log }, &[last])?;
    Ok(vec![cx.b.transpose(y, &back)?])
}
