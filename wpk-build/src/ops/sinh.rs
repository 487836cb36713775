//! [Sinh](https://onnx.ai/onnx/operators/onnx__Sinh.html): hyperbolic sine.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Sinh", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Sinh)
}
