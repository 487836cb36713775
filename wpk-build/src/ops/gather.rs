//! [Gather](https://onnx.ai/onnx/operators/onnx__Gather.html): slices along a dimension by an index tensor.

use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "Gather", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, index) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), cx.shape(x).len())?;
    Ok(vec![cx.b.one(Op::Gather { axis }, &[x, index])?])
}
