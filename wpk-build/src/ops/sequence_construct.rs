//! [SequenceConstruct](https://onnx.ai/onnx/operators/onnx__SequenceConstruct.html): a sequence of the inputs.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "SequenceConstruct", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let values = cx.all()?;
    Ok(vec![cx.b.sequence(values)])
}
