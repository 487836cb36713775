//! [CumProd](https://onnx.ai/onnx/operators/onnx__CumProd.html): running product along an axis.

use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "CumProd", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let axis = cx.constant(1, "axis")?.and_then(|l| l.to_ints().first().copied()).ok_or("there is no axis")?;
    let axis = cx.axis(axis, cx.shape(x).len())?;
    let (exclusive, reverse) = (cx.attrs.flag("exclusive", false), cx.attrs.flag("reverse", false));
    Ok(vec![cx.b.one(Op::Scan { axis, product: true, exclusive, reverse }, &[x])?])
}
