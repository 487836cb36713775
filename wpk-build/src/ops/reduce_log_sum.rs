//! [ReduceLogSum](https://onnx.ai/onnx/operators/onnx__ReduceLogSum.html): logarithm of the sum over axes.

use super::reducing::reduce_with;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;
use wpk_plan::problem::ReduceKind;

pub(super) const OP: OpDef = OpDef { name: "ReduceLogSum", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    reduce_with(cx, x, |cx, x, axes| {
        let sum = cx.b.reduce(ReduceKind::Sum, x, axes)?;
        Ok(cx.b.unary(Unary::Log, sum)?)
    })
}
