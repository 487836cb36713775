//! [Atanh](https://onnx.ai/onnx/operators/onnx__Atanh.html): inverse hyperbolic tangent.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Atanh", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Atanh)
}
