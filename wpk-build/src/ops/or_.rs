//! [Or](https://onnx.ai/onnx/operators/onnx__Or.html): disjunction.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Or", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::binary(cx, Binary::Or)
}
