//! [SoftmaxCrossEntropyLoss](https://onnx.ai/onnx/operators/onnx__SoftmaxCrossEntropyLoss.html): the negative log-likelihood of the log-softmax over classes, which is the second output.

use super::negative_log_likelihood_loss::loss;
use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "SoftmaxCrossEntropyLoss", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    if cx.shape(x).len() < 2 {
        return Err("the scores have no dimension of classes".into());
    }
    let (last, back) = cx.b.to_last(x, 1)?;
    let log = cx.b.one(Op::Softmax { log: true }, &[last])?;
    let log = cx.b.transpose(log, &back)?;
    Ok(vec![loss(cx, log)?, log])
}
