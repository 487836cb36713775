//! [ThresholdedRelu](https://onnx.ai/onnx/operators/onnx__ThresholdedRelu.html): `x` where above `alpha`, else 0.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "ThresholdedRelu", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let alpha = cx.attrs.float("alpha").unwrap_or(1.0);
    pointwise::apply(cx, |f, x| {
        let (zero, alpha) = (f.constant(0.0, f.dtype(x)), f.constant(alpha, f.dtype(x)));
        let above = f.binary(Binary::Lt, alpha, x);
        f.select(above, x, zero)
    })
}
