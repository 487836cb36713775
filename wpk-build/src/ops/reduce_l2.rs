//! [ReduceL2](https://onnx.ai/onnx/operators/onnx__ReduceL2.html): root of the sum of squares over axes.

use super::reducing::reduce_with;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;
use wpk_plan::problem::ReduceKind;

pub(super) const OP: OpDef = OpDef { name: "ReduceL2", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    reduce_with(cx, x, |cx, x, axes| {
        let sum = cx.b.reduce(ReduceKind::SumSquare, x, axes)?;
        Ok(cx.b.unary(Unary::Sqrt, sum)?)
    })
}
