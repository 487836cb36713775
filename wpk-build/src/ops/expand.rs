//! [Expand](https://onnx.ai/onnx/operators/onnx__Expand.html): broadcast to extents that a constant gives, in both directions.

use super::context::unsigned;
use super::{Context, Imported, OpDef};
use crate::graph::{Op, broadcast};

pub(super) const OP: OpDef = OpDef { name: "Expand", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let wanted = unsigned(&cx.ints(1, "shape")?.ok_or("there is no shape")?, "shape")?;
    let shape = broadcast(&[&cx.shape(x), &wanted])?;
    Ok(vec![cx.b.one(Op::Expand(shape), &[x])?])
}
