//! [HardSigmoid](https://onnx.ai/onnx/operators/onnx__HardSigmoid.html): `max(0, min(1, alpha x + beta))`.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "HardSigmoid", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (alpha, beta) = (cx.attrs.float("alpha").unwrap_or(0.2), cx.attrs.float("beta").unwrap_or(0.5));
    pointwise::apply(cx, |f, x| {
        let t = f.dtype(x);
        let (zero, one, alpha, beta) = (f.constant(0.0, t), f.constant(1.0, t), f.constant(alpha, t), f.constant(beta, t));
        let scaled = f.binary(Binary::Mul, x, alpha);
        let moved = f.binary(Binary::Add, scaled, beta);
        let low = f.binary(Binary::Max, moved, zero);
        f.binary(Binary::Min, low, one)
    })
}
