//! [Floor](https://onnx.ai/onnx/operators/onnx__Floor.html): largest integer not above.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Floor", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Floor)
}
