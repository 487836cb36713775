//! [IsNaN](https://onnx.ai/onnx/operators/onnx__IsNaN.html): test for not a number.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "IsNaN", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::IsNan)
}
