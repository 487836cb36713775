//! [ScatterElements](https://onnx.ai/onnx/operators/onnx__ScatterElements.html): a copy of the data with single elements updated.

use super::{Context, Imported, OpDef};
use crate::graph::Op;
use wpk_plan::problem::ScatterReduce;

pub(super) const OP: OpDef = OpDef { name: "ScatterElements", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let inputs = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), cx.shape(inputs[0]).len())?;
    let reduce = reduction(cx)?;
    Ok(vec![cx.b.one(Op::ScatterElements { axis, reduce }, &inputs)?])
}

/// How an update meets the element there.
pub(super) fn reduction(cx: &Context<'_>) -> Result<ScatterReduce, super::Refusal> {
    let name = cx.attrs.text("reduction").unwrap_or_else(|| "none".to_owned());
    ScatterReduce::ALL.iter().copied().find(|r| r.name() == name).map_or_else(|| cx.unsupported("reduction", &name), Ok)
}
