//! [SequenceInsert](https://onnx.ai/onnx/operators/onnx__SequenceInsert.html): a sequence with one tensor more, at a constant position or at the end.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "SequenceInsert", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let mut values = cx.sequence(0)?;
    let value = cx.input(1)?;
    let at = cx.position(2, values.len())?.unwrap_or(values.len());
    values.insert(at, value);
    Ok(vec![cx.b.sequence(values)])
}
