//! [And](https://onnx.ai/onnx/operators/onnx__And.html): conjunction.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "And", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::binary(cx, Binary::And)
}
