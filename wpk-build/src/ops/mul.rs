//! [Mul](https://onnx.ai/onnx/operators/onnx__Mul.html): product, broadcast.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Mul", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::binary(cx, Binary::Mul)
}
