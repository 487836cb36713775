//! [BitwiseNot](https://onnx.ai/onnx/operators/onnx__BitwiseNot.html): every bit inverted.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "BitwiseNot", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::BitNot)
}
