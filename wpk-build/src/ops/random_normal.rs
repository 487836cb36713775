//! [RandomNormal](https://onnx.ai/onnx/operators/onnx__RandomNormal.html): numbers of a mean and a deviation.

use super::random::{Spread, shaped};
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "RandomNormal", import };

fn import(cx: &mut Context<'_>) -> Imported {
    shaped(cx, Spread::Normal)
}
