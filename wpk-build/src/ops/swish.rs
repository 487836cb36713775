//! [Swish](https://onnx.ai/onnx/operators/onnx__Swish.html): `x sigmoid(alpha x)`.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "Swish", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let alpha = cx.attrs.float("alpha").unwrap_or(1.0);
    pointwise::apply(cx, |f, x| {
        let alpha = f.constant(alpha, f.dtype(x));
        let scaled = f.binary(Binary::Mul, x, alpha);
        let gate = f.unary(Unary::Sigmoid, scaled);
        f.binary(Binary::Mul, x, gate)
    })
}
