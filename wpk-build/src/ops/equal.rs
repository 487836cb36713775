//! [Equal](https://onnx.ai/onnx/operators/onnx__Equal.html): equality.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Equal", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::binary(cx, Binary::Eq)
}
