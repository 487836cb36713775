//! [AveragePool](https://onnx.ai/onnx/operators/onnx__AveragePool.html): mean of each window, padding counted or not.

use super::max_pool::pool;
use super::{Context, Imported, OpDef};
use wpk_plan::problem::WindowKind;

pub(super) const OP: OpDef = OpDef { name: "AveragePool", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pool(cx, WindowKind::Mean)
}
