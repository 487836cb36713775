//! [Atan](https://onnx.ai/onnx/operators/onnx__Atan.html): inverse tangent.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Atan", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Atan)
}
