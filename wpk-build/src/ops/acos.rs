//! [Acos](https://onnx.ai/onnx/operators/onnx__Acos.html): inverse cosine.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Acos", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Acos)
}
