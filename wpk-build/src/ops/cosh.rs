//! [Cosh](https://onnx.ai/onnx/operators/onnx__Cosh.html): hyperbolic cosine.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Cosh", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Cosh)
}
