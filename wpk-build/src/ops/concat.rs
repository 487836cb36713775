//! [Concat](https://onnx.ai/onnx/operators/onnx__Concat.html): inputs one after another along a dimension.

use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "Concat", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let inputs = cx.all()?;
    let rank = cx.shape(*inputs.first().ok_or("there is no input")?).len();
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(1), rank)?;
    Ok(vec![cx.b.one(Op::Concat(axis), &inputs)?])
}
