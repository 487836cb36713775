//! [ReduceProd](https://onnx.ai/onnx/operators/onnx__ReduceProd.html): product over axes.

use super::reducing::reduce;
use super::{Context, Imported, OpDef};
use wpk_plan::problem::ReduceKind;

pub(super) const OP: OpDef = OpDef { name: "ReduceProd", import };

fn import(cx: &mut Context<'_>) -> Imported {
    reduce(cx, ReduceKind::Prod)
}
