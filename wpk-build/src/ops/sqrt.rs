//! [Sqrt](https://onnx.ai/onnx/operators/onnx__Sqrt.html): square root.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Sqrt", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Sqrt)
}
