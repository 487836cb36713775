//! [Sum](https://onnx.ai/onnx/operators/onnx__Sum.html): sum of any number of inputs, broadcast.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Sum", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::variadic(cx, Binary::Add)
}
