//! [Squeeze](https://onnx.ai/onnx/operators/onnx__Squeeze.html): dimensions of extent 1 removed; axes are an attribute before version 13.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "Squeeze", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let axes = match cx.ints(1, "axes")? {
        Some(axes) => cx.axes(&axes, shape.len())?,
        None => (0..shape.len()).filter(|&d| shape[d] == 1).collect(),
    };
    if let Some(d) = axes.iter().find(|&&d| shape[d] != 1) {
        return Err(format!("dimension {d} of {shape:?} is not 1").into());
    }
    let kept: Vec<usize> = (0..shape.len()).filter(|d| !axes.contains(d)).map(|d| shape[d]).collect();
    Ok(vec![cx.b.reshape(x, &kept)?])
}
