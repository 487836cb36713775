//! [Mish](https://onnx.ai/onnx/operators/onnx__Mish.html): `x tanh(log(1 + exp(x)))`.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "Mish", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::apply(cx, |f, x| {
        let soft = f.unary(Unary::Softplus, x);
        let bent = f.unary(Unary::Tanh, soft);
        f.binary(Binary::Mul, x, bent)
    })
}
