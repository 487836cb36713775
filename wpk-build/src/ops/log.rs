//! [Log](https://onnx.ai/onnx/operators/onnx__Log.html): natural logarithm.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Log", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Log)
}
