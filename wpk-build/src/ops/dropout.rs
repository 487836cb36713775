//! [Dropout](https://onnx.ai/onnx/operators/onnx__Dropout.html): the input itself: inference drops nothing. The mask is all true.

use super::{Context, Imported, OpDef};
use crate::graph::Op;
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "Dropout", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let training = cx.constant(2, "training_mode")?.and_then(|l| l.scalar()).unwrap_or(0.0) != 0.0;
    let ratio = cx.constant(1, "ratio")?.and_then(|l| l.scalar()).unwrap_or(0.5);
    if training && ratio != 0.0 {
        return Err("training_mode=true draws random numbers".into());
    }
    let yes = cx.b.scalar(1.0, DType::Bool);
    let shape = cx.shape(x);
    Ok(vec![x, cx.b.one(Op::Expand(shape), &[yes])?])
}
