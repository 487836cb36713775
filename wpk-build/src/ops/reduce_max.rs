//! [ReduceMax](https://onnx.ai/onnx/operators/onnx__ReduceMax.html): largest over axes; booleans count as 0 and 1.

use super::reducing::reduce;
use super::{Context, Imported, OpDef};
use wpk_plan::DType;
use wpk_plan::problem::ReduceKind;

pub(super) const OP: OpDef = OpDef { name: "ReduceMax", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    if cx.dtype(x) != DType::Bool {
        return reduce(cx, ReduceKind::Max);
    }
    let wide = cx.b.cast(x, DType::U8)?;
    cx.inputs[0] = Some(wide);
    let y = reduce(cx, ReduceKind::Max)?[0];
    Ok(vec![cx.b.cast(y, DType::Bool)?])
}
