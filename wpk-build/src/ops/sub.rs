//! [Sub](https://onnx.ai/onnx/operators/onnx__Sub.html): difference, broadcast.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Sub", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::binary(cx, Binary::Sub)
}
