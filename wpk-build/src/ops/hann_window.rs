//! [HannWindow](https://onnx.ai/onnx/operators/onnx__HannWindow.html): the square of half a sine wave.

use super::windowing::window;
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "HannWindow", import };

fn import(cx: &mut Context<'_>) -> Imported {
    window(cx, [0.5, -0.5, 0.0])
}
