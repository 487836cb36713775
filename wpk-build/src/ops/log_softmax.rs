//! [LogSoftmax](https://onnx.ai/onnx/operators/onnx__LogSoftmax.html): logarithm of the softmax.

use super::softmax::softmax;
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "LogSoftmax", import };

fn import(cx: &mut Context<'_>) -> Imported {
    softmax(cx, true)
}
