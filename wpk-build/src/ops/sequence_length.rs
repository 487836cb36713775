//! [SequenceLength](https://onnx.ai/onnx/operators/onnx__SequenceLength.html): the number of tensors as a constant.

use super::{Context, Imported, OpDef};
use crate::graph::Literal;
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "SequenceLength", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let n = cx.sequence(0)?.len() as i64;
    Ok(vec![cx.b.constant(Literal::ints(DType::I64, &[], &[n]))])
}
