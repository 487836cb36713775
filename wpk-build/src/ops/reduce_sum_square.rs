//! [ReduceSumSquare](https://onnx.ai/onnx/operators/onnx__ReduceSumSquare.html): sum of squares over axes.

use super::reducing::reduce;
use super::{Context, Imported, OpDef};
use wpk_plan::problem::ReduceKind;

pub(super) const OP: OpDef = OpDef { name: "ReduceSumSquare", import };

fn import(cx: &mut Context<'_>) -> Imported {
    reduce(cx, ReduceKind::SumSquare)
}
