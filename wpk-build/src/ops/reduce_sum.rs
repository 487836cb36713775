//! [ReduceSum](https://onnx.ai/onnx/operators/onnx__ReduceSum.html): sum over axes.

use super::reducing::reduce;
use super::{Context, Imported, OpDef};
use wpk_plan::problem::ReduceKind;

pub(super) const OP: OpDef = OpDef { name: "ReduceSum", import };

fn import(cx: &mut Context<'_>) -> Imported {
    reduce(cx, ReduceKind::Sum)
}
