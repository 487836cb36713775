//! [Shape](https://onnx.ai/onnx/operators/onnx__Shape.html): the extents as a constant, from `start` to `end` of them.

use super::{Context, Imported, OpDef};
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "Shape", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let rank = cx.shape(x).len() as i64;
    let at = |i: i64| (if i < 0 { i + rank } else { i }).clamp(0, rank) as usize;
    let (start, end) = (at(cx.attrs.int("start").unwrap_or(0)), at(cx.attrs.int("end").unwrap_or(rank)));
    let part = (start..end.max(start)).map(|d| cx.b.extent(x, d)).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![cx.b.sized(DType::I64, &[part.len()], part)])
}
