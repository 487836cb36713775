//! [Where](https://onnx.ai/onnx/operators/onnx__Where.html): the second input where the first is true, else the third; broadcast.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "Where", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let inputs = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
    if cx.dtype(inputs[1]) != cx.dtype(inputs[2]) {
        return Err(format!("the choices are {} and {}", cx.dtype(inputs[1]), cx.dtype(inputs[2])).into());
    }
    Ok(vec![cx.b.map(&inputs, |f, i| f.select(i[0], i[1], i[2]))?])
}
