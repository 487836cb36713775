//! [Flatten](https://onnx.ai/onnx/operators/onnx__Flatten.html): two dimensions: those before an axis, and the rest.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "Flatten", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let axis = cx.attrs.int("axis").unwrap_or(1);
    let axis = if axis == shape.len() as i64 { shape.len() } else { cx.axis(axis, shape.len())? };
    Ok(vec![cx.b.reshape(x, &[shape[..axis].iter().product(), shape[axis..].iter().product()])?])
}
