//! [ArgMax](https://onnx.ai/onnx/operators/onnx__ArgMax.html): position of the largest element along an axis.

use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "ArgMax", import };

fn import(cx: &mut Context<'_>) -> Imported {
    arg_reduce(cx, true)
}

/// The position of an extreme element; the reduced dimension stays unless `keepdims=0`.
pub(super) fn arg_reduce(cx: &mut Context<'_>, largest: bool) -> Imported {
    let x = cx.input(0)?;
    let mut shape = cx.shape(x);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), shape.len())?;
    let y = cx.b.one(Op::ArgReduce { axis, largest, last: cx.attrs.flag("select_last_index", false) }, &[x])?;
    if cx.attrs.flag("keepdims", true) {
        return Ok(vec![y]);
    }
    shape.remove(axis);
    Ok(vec![cx.b.reshape(y, &shape)?])
}
