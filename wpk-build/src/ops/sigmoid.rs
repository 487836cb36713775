//! [Sigmoid](https://onnx.ai/onnx/operators/onnx__Sigmoid.html): logistic function.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Sigmoid", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Sigmoid)
}
