//! [ReduceLogSumExp](https://onnx.ai/onnx/operators/onnx__ReduceLogSumExp.html): logarithm of the sum of exponentials over axes, relative to the largest so that none overflows.

use super::reducing::reduce_with;
use super::{Context, Imported, OpDef};
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "ReduceLogSumExp", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    reduce_with(cx, x, |cx, x, axes| {
        if cx.shape(x).contains(&0) {
            let sum = cx.b.reduce(ReduceKind::Sum, x, axes)?;
            return Ok(cx.b.unary(Unary::Log, sum)?);
        }
        let top = cx.b.reduce(ReduceKind::Max, x, axes)?;
        let moved = cx.b.binary(Binary::Sub, x, top)?;
        let grown = cx.b.unary(Unary::Exp, moved)?;
        let sum = cx.b.reduce(ReduceKind::Sum, grown, axes)?;
        let log = cx.b.unary(Unary::Log, sum)?;
        Ok(cx.b.binary(Binary::Add, log, top)?)
    })
}
