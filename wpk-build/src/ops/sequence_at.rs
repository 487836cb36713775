//! [SequenceAt](https://onnx.ai/onnx/operators/onnx__SequenceAt.html): the tensor at a constant position.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "SequenceAt", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let values = cx.sequence(0)?;
    let at = cx.position(1, values.len())?.ok_or("there is no position")?;
    values.get(at).map(|&v| vec![v]).ok_or_else(|| format!("position {at} is not in a sequence of {}", values.len()).into())
}
