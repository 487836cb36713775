//! [BitCast](https://onnx.ai/onnx/operators/onnx__BitCast.html): the same bits as another type of the same size.

use super::{Context, Imported, OpDef};
use crate::graph::Op;
use crate::onnx::dtype;

pub(super) const OP: OpDef = OpDef { name: "BitCast", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let to = cx.attrs.int("to").unwrap_or(0);
    let to = dtype(to as i32).map_err(|t| format!("casts to {t} type are not supported"))?;
    if cx.dtype(x) == to { Ok(vec![x]) } else { Ok(vec![cx.b.one(Op::BitCast(to), &[x])?]) }
}
