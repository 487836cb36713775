//! [Ceil](https://onnx.ai/onnx/operators/onnx__Ceil.html): smallest integer not below.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Ceil", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Ceil)
}
