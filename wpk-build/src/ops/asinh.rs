//! [Asinh](https://onnx.ai/onnx/operators/onnx__Asinh.html): inverse hyperbolic sine.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Asinh", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Asinh)
}
