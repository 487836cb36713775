//! [HammingWindow](https://onnx.ai/onnx/operators/onnx__HammingWindow.html): a raised cosine that does not reach zero.

use super::windowing::window;
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "HammingWindow", import };

fn import(cx: &mut Context<'_>) -> Imported {
    window(cx, [25.0 / 46.0, -21.0 / 46.0, 0.0])
}
