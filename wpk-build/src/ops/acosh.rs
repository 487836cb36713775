//! [Acosh](https://onnx.ai/onnx/operators/onnx__Acosh.html): inverse hyperbolic cosine.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Acosh", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Acosh)
}
