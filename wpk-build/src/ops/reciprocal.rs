//! [Reciprocal](https://onnx.ai/onnx/operators/onnx__Reciprocal.html): reciprocal.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Reciprocal", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Recip)
}
