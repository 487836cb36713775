//! [SequenceErase](https://onnx.ai/onnx/operators/onnx__SequenceErase.html): a sequence with one tensor less, at a constant position or at the end.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "SequenceErase", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let mut values = cx.sequence(0)?;
    let at = cx.position(1, values.len())?.unwrap_or(values.len().saturating_sub(1));
    if at >= values.len() {
        return Err(format!("position {at} is not in a sequence of {}", values.len()).into());
    }
    values.remove(at);
    Ok(vec![cx.b.sequence(values)])
}
