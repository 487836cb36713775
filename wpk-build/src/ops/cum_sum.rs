//! [CumSum](https://onnx.ai/onnx/operators/onnx__CumSum.html): running sum along an axis.

use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "CumSum", import };

fn import(cx: &mut Context<'_>) -> Imported {
    scan(cx, false)
}

/// Running sums or products along the axis that a constant in input 1 names.
pub(super) fn scan(cx: &mut Context<'_>, product: bool) -> Imported {
    let x = cx.input(0)?;
    let axis = cx.constant(1, "axis")?.and_then(|l| l.to_ints().first().copied()).ok_or("there is no axis")?;
    let axis = cx.axis(axis, cx.shape(x).len())?;
    let (exclusive, reverse) = (cx.attrs.flag("exclusive", false), cx.attrs.flag("reverse", false));
    Ok(vec![cx.b.one(Op::Scan { axis, product, exclusive, reverse }, &[x])?])
}
