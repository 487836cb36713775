//! [Identity](https://onnx.ai/onnx/operators/onnx__Identity.html): the input itself.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "Identity", import };

fn import(cx: &mut Context<'_>) -> Imported {
    Ok(vec![cx.input(0)?])
}
