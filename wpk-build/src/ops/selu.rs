//! [Selu](https://onnx.ai/onnx/operators/onnx__Selu.html): `gamma x` where positive, else `gamma alpha (exp(x) - 1)`.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "Selu", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let alpha = cx.attrs.float("alpha").unwrap_or(1.673_263_192_176_818_8);
    let gamma = cx.attrs.float("gamma").unwrap_or(1.050_701_022_148_132_3);
    pointwise::apply(cx, |f, x| {
        let t = f.dtype(x);
        let (zero, one, alpha, gamma) = (f.constant(0.0, t), f.constant(1.0, t), f.constant(alpha, t), f.constant(gamma, t));
        let negative = f.binary(Binary::Lt, x, zero);
        let grown = f.unary(Unary::Exp, x);
        let below = f.binary(Binary::Sub, grown, one);
        let scaled = f.binary(Binary::Mul, below, alpha);
        let chosen = f.select(negative, scaled, x);
        f.binary(Binary::Mul, chosen, gamma)
    })
}
