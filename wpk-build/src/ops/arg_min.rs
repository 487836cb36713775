//! [ArgMin](https://onnx.ai/onnx/operators/onnx__ArgMin.html): position of the smallest element along an axis.

use super::arg_max::arg_reduce;
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "ArgMin", import };

fn import(cx: &mut Context<'_>) -> Imported {
    arg_reduce(cx, false)
}
