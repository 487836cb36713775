//! [HardSwish](https://onnx.ai/onnx/operators/onnx__HardSwish.html): `x max(0, min(1, x/6 + 1/2))`.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "HardSwish", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::HardSwish)
}
