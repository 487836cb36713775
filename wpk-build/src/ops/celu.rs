//! [Celu](https://onnx.ai/onnx/operators/onnx__Celu.html): `max(0, x) + min(0, alpha (exp(x / alpha) - 1))`.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "Celu", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let alpha = cx.attrs.float("alpha").unwrap_or(1.0);
    pointwise::apply(cx, |f, x| {
        let (zero, one, alpha) = (f.constant(0.0, f.dtype(x)), f.constant(1.0, f.dtype(x)), f.constant(alpha, f.dtype(x)));
        let negative = f.binary(Binary::Lt, x, zero);
        let narrowed = f.binary(Binary::Div, x, alpha);
        let grown = f.unary(Unary::Exp, narrowed);
        let below = f.binary(Binary::Sub, grown, one);
        let scaled = f.binary(Binary::Mul, below, alpha);
        f.select(negative, scaled, x)
    })
}
