//! [Round](https://onnx.ai/onnx/operators/onnx__Round.html): nearest integer, ties to even.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Round", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Round)
}
