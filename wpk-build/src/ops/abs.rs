//! [Abs](https://onnx.ai/onnx/operators/onnx__Abs.html): absolute value. Versions 6, 13.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Abs", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Abs)
}
