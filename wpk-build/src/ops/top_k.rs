//! [TopK](https://onnx.ai/onnx/operators/onnx__TopK.html): the largest or smallest along an axis with their positions; k is an attribute before version 10.

use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "TopK", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), cx.shape(x).len())?;
    let k = match cx.constant(1, "k")? {
        Some(k) => k.to_ints().first().copied(),
        None => cx.attrs.int("k"),
    };
    let k = k.and_then(|k| usize::try_from(k).ok()).ok_or("there is no k")?;
    Ok(cx.b.add(Op::TopK { axis, k, largest: cx.attrs.flag("largest", true) }, &[x])?)
}
