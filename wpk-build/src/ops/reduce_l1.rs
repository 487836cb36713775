//! [ReduceL1](https://onnx.ai/onnx/operators/onnx__ReduceL1.html): sum of absolute values over axes.

use super::reducing::reduce;
use super::{Context, Imported, OpDef};
use wpk_plan::problem::ReduceKind;

pub(super) const OP: OpDef = OpDef { name: "ReduceL1", import };

fn import(cx: &mut Context<'_>) -> Imported {
    reduce(cx, ReduceKind::SumAbs)
}
