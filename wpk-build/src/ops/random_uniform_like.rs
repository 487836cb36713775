//! [RandomUniformLike](https://onnx.ai/onnx/operators/onnx__RandomUniformLike.html): numbers between two, as many as the input has.

use super::random::{Spread, alike};
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "RandomUniformLike", import };

fn import(cx: &mut Context<'_>) -> Imported {
    alike(cx, Spread::Uniform)
}
