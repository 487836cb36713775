//! [LeakyRelu](https://onnx.ai/onnx/operators/onnx__LeakyRelu.html): `x` where positive, else `alpha x`.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "LeakyRelu", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let alpha = cx.attrs.float("alpha").unwrap_or(0.01);
    pointwise::apply(cx, |f, x| {
        let (zero, alpha) = (f.constant(0.0, f.dtype(x)), f.constant(alpha, f.dtype(x)));
        let (negative, scaled) = (f.binary(Binary::Lt, x, zero), f.binary(Binary::Mul, x, alpha));
        f.select(negative, scaled, x)
    })
}
