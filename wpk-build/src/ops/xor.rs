//! [Xor](https://onnx.ai/onnx/operators/onnx__Xor.html): exclusive disjunction.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Xor", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::binary(cx, Binary::Xor)
}
