//! [Compress](https://onnx.ai/onnx/operators/onnx__Compress.html): the slices that a condition names, as many as there are.

use super::{Context, Imported, OpDef, counted};
use crate::graph::{Literal, Op};
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "Compress", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (mut x, condition) = (cx.input(0)?, cx.input(1)?);
    let axis = match cx.attrs.int("axis") {
        Some(axis) => cx.axis(axis, cx.shape(x).len())?,
        None => {
            x = cx.b.reshape(x, &[cx.shape(x).iter().product()])?;
            0
        }
    };
    let [n] = cx.shape(condition)[..] else { return Err("the condition is no vector".into()) };
    if n > cx.shape(x)[axis] {
        return Err(format!("a condition of {n} elements does not fit {:?}", cx.shape(x)).into());
    }
    if let Some(condition) = cx.b.fixed(condition) {
        let kept: Vec<i64> = (0i64..).zip(condition.to_ints()).filter(|c| c.1 != 0).map(|c| c.0).collect();
        let index = cx.b.constant(Literal::ints(DType::I64, &[kept.len()], &kept));
        return Ok(vec![cx.b.one(Op::Gather { axis }, &[x, index])?]);
    }
    let (positions, count) = counted::positions(cx.b, condition)?;
    let positions = counted::of(cx.b, positions, 0, count);
    Ok(vec![cx.b.one(Op::Gather { axis }, &[x, positions])?])
}
