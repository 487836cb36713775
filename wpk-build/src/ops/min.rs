//! [Min](https://onnx.ai/onnx/operators/onnx__Min.html): smallest of any number of inputs, broadcast.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Min", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::variadic(cx, Binary::Min)
}
