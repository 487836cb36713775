//! [Transpose](https://onnx.ai/onnx/operators/onnx__Transpose.html): dimensions in another order, reversed by default.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "Transpose", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let rank = cx.shape(x).len();
    let perm = match cx.attrs.ints("perm") {
        Some(perm) => cx.axes(&perm, rank)?,
        None => (0..rank).rev().collect(),
    };
    Ok(vec![cx.b.transpose(x, &perm)?])
}
