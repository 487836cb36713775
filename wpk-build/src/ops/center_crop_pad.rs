//! [CenterCropPad](https://onnx.ai/onnx/operators/onnx__CenterCropPad.html): the middle of dimensions that are too long, zeros around those too short.

use super::context::unsigned;
use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "CenterCropPad", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let mut x = cx.input(0)?;
    let shape = cx.shape(x);
    let wanted = unsigned(&cx.ints(1, "shape")?.ok_or("there is no shape")?, "shape")?;
    let axes = match cx.attrs.ints("axes") {
        Some(axes) => cx.axes(&axes, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    if axes.len() != wanted.len() {
        return Err(format!("{wanted:?} does not fit {} dimensions", axes.len()).into());
    }
    let (mut before, mut after) = (vec![0; shape.len()], vec![0; shape.len()]);
    for (&d, &count) in axes.iter().zip(&wanted) {
        let n = shape[d];
        if count <= n {
            x = cx.b.range(x, d, (n - count) / 2, count)?;
        } else {
            before[d] = (count - n) / 2;
            after[d] = count - n - before[d];
        }
    }
    Ok(vec![cx.b.one(Op::Pad { before, after, fill: 0 }, &[x])?])
}
