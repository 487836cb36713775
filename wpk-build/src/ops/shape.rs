//! [Shape](https://onnx.ai/onnx/operators/onnx__Shape.html): the extents as a constant, from `start` to `end` of them.

use super::context::signed;
use super::{Context, Imported, OpDef};
use crate::graph::Literal;
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "Shape", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let shape = signed(&cx.shape(cx.input(0)?));
    let rank = shape.len() as i64;
    let at = |i: i64| (if i < 0 { i + rank } else { i }).clamp(0, rank) as usize;
    let (start, end) = (at(cx.attrs.int("start").unwrap_or(0)), at(cx.attrs.int("end").unwrap_or(rank)));
    let part = &shape[start..end.max(start)];
    Ok(vec![cx.b.constant(Literal::ints(DType::I64, &[part.len()], part))])
}
