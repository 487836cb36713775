//! [Cast](https://onnx.ai/onnx/operators/onnx__Cast.html): conversion of elements: floating to integer truncates.

use super::{Context, Imported, OpDef};
use crate::onnx::dtype;

pub(super) const OP: OpDef = OpDef { name: "Cast", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let to = cx.attrs.int("to").unwrap_or(0);
    let to = dtype(to as i32).map_err(|t| format!("casts to {t} type are not supported"))?;
    Ok(vec![cx.b.cast(x, to)?])
}
