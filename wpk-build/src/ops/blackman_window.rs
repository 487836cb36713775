//! [BlackmanWindow](https://onnx.ai/onnx/operators/onnx__BlackmanWindow.html): two cosines that cancel at the ends.

use super::windowing::window;
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "BlackmanWindow", import };

fn import(cx: &mut Context<'_>) -> Imported {
    window(cx, [0.42, -0.5, 0.08])
}
