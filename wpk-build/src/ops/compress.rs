//! [Compress](https://onnx.ai/onnx/operators/onnx__Compress.html): the slices that a condition names, which is known at build time.

use super::{Context, Imported, OpDef};
use crate::graph::{Literal, Op};
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "Compress", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let mut x = cx.input(0)?;
    let condition = cx.constant(1, "the condition")?.ok_or("there is no condition")?.to_ints();
    let axis = match cx.attrs.int("axis") {
        Some(axis) => cx.axis(axis, cx.shape(x).len())?,
        None => {
            x = cx.b.reshape(x, &[cx.shape(x).iter().product()])?;
            0
        }
    };
    if condition.len() > cx.shape(x)[axis] {
        return Err(format!("a condition of {} elements does not fit {:?}", condition.len(), cx.shape(x)).into());
    }
    let kept: Vec<i64> = (0i64..).zip(&condition).filter(|c| *c.1 != 0).map(|c| c.0).collect();
    let index = cx.b.constant(Literal::ints(DType::I64, &[kept.len()], &kept));
    Ok(vec![cx.b.one(Op::Gather { axis }, &[x, index])?])
}
