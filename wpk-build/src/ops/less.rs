//! [Less](https://onnx.ai/onnx/operators/onnx__Less.html): comparison.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Less", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::binary(cx, Binary::Lt)
}
