//! [Softplus](https://onnx.ai/onnx/operators/onnx__Softplus.html): `log(1 + exp(x))`.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Softplus", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Softplus)
}
