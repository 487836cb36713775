//! [Mean](https://onnx.ai/onnx/operators/onnx__Mean.html): mean of any number of inputs, broadcast.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Mean", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let count = cx.inputs.len() as f64;
    let total = pointwise::variadic(cx, Binary::Add)?[0];
    let mean = cx.b.map(&[total], |f, i| {
        let count = f.constant(count, f.dtype(i[0]));
        f.binary(Binary::Div, i[0], count)
    })?;
    Ok(vec![mean])
}
