//! [GreaterOrEqual](https://onnx.ai/onnx/operators/onnx__GreaterOrEqual.html): comparison, as `LessOrEqual` with exchanged operands.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "GreaterOrEqual", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::flipped(cx, Binary::Le)
}
