//! [SequenceEmpty](https://onnx.ai/onnx/operators/onnx__SequenceEmpty.html): a sequence of nothing.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "SequenceEmpty", import };

fn import(cx: &mut Context<'_>) -> Imported {
    Ok(vec![cx.b.sequence(vec![])])
}
