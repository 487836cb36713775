//! [BitwiseOr](https://onnx.ai/onnx/operators/onnx__BitwiseOr.html): disjunction of bits.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "BitwiseOr", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::binary(cx, Binary::Or)
}
