//! [GatherElements](https://onnx.ai/onnx/operators/onnx__GatherElements.html): single elements along a dimension.

use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "GatherElements", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, index) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), cx.shape(x).len())?;
    Ok(vec![cx.b.one(Op::GatherElements { axis }, &[x, index])?])
}
