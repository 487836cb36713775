//! [ConcatFromSequence](https://onnx.ai/onnx/operators/onnx__ConcatFromSequence.html): the tensors one after another, along a dimension or a new one.

use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "ConcatFromSequence", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let mut values = cx.sequence(0)?;
    let rank = cx.shape(*values.first().ok_or("the sequence is empty")?).len();
    let stacks = cx.attrs.flag("new_axis", false);
    let axis = cx.axis(cx.attrs.int("axis").ok_or("there is no axis")?, rank + usize::from(stacks))?;
    if stacks {
        for v in &mut values {
            let mut shape = cx.shape(*v);
            shape.insert(axis.min(shape.len()), 1);
            *v = cx.b.reshape(*v, &shape)?;
        }
    }
    Ok(vec![cx.b.one(Op::Concat(axis), &values)?])
}
