//! [Div](https://onnx.ai/onnx/operators/onnx__Div.html): quotient, broadcast; integers truncate.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Div", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::binary(cx, Binary::Div)
}
