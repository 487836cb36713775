//! [Greater](https://onnx.ai/onnx/operators/onnx__Greater.html): comparison, as `Less` with exchanged operands.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Greater", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::flipped(cx, Binary::Lt)
}
