//! [GlobalMaxPool](https://onnx.ai/onnx/operators/onnx__GlobalMaxPool.html): largest over all spatial dimensions.

use super::{Context, Imported, OpDef};
use wpk_plan::problem::ReduceKind;

pub(super) const OP: OpDef = OpDef { name: "GlobalMaxPool", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let axes: Vec<usize> = (2..cx.shape(x).len()).collect();
    Ok(vec![cx.b.reduce(ReduceKind::Max, x, &axes)?])
}
