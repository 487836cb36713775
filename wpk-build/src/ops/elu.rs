//! [Elu](https://onnx.ai/onnx/operators/onnx__Elu.html): `x` where positive, else `alpha (exp(x) - 1)`.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "Elu", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let alpha = cx.attrs.float("alpha").unwrap_or(1.0);
    pointwise::apply(cx, |f, x| {
        let (zero, one, alpha) = (f.constant(0.0, f.dtype(x)), f.constant(1.0, f.dtype(x)), f.constant(alpha, f.dtype(x)));
        let negative = f.binary(Binary::Lt, x, zero);
        let grown = f.unary(Unary::Exp, x);
        let below = f.binary(Binary::Sub, grown, one);
        let scaled = f.binary(Binary::Mul, below, alpha);
        f.select(negative, scaled, x)
    })
}
