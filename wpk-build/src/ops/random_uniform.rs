//! [RandomUniform](https://onnx.ai/onnx/operators/onnx__RandomUniform.html): numbers between two.

use super::random::{Spread, shaped};
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "RandomUniform", import };

fn import(cx: &mut Context<'_>) -> Imported {
    shaped(cx, Spread::Uniform)
}
