//! [Unsqueeze](https://onnx.ai/onnx/operators/onnx__Unsqueeze.html): dimensions of extent 1 inserted; axes are an attribute before version 13.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "Unsqueeze", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let axes = cx.ints(1, "axes")?.ok_or("there are no axes")?;
    let rank = shape.len() + axes.len();
    let axes = cx.axes(&axes, rank)?;
    let mut rest = shape.into_iter();
    let out: Vec<usize> = (0..rank).map(|d| if axes.contains(&d) { 1 } else { rest.next().unwrap_or(1) }).collect();
    Ok(vec![cx.b.reshape(x, &out)?])
}
