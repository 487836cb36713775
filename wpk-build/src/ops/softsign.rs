//! [Softsign](https://onnx.ai/onnx/operators/onnx__Softsign.html): `x / (1 + |x|)`.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "Softsign", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::apply(cx, |f, x| {
        let one = f.constant(1.0, f.dtype(x));
        let size = f.unary(Unary::Abs, x);
        let sum = f.binary(Binary::Add, size, one);
        f.binary(Binary::Div, x, sum)
    })
}
