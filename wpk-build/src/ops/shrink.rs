//! [Shrink](https://onnx.ai/onnx/operators/onnx__Shrink.html): `x + bias` below `-lambd`, `x - bias` above `lambd`, else 0.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Shrink", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (bias, limit) = (cx.attrs.float("bias").unwrap_or(0.0), cx.attrs.float("lambd").unwrap_or(0.5));
    pointwise::apply(cx, |f, x| {
        let t = f.dtype(x);
        let (zero, bias, low, high) = (f.constant(0.0, t), f.constant(bias, t), f.constant(-limit, t), f.constant(limit, t));
        let (below, above) = (f.binary(Binary::Lt, x, low), f.binary(Binary::Lt, high, x));
        let (raised, lowered) = (f.binary(Binary::Add, x, bias), f.binary(Binary::Sub, x, bias));
        let rest = f.select(above, lowered, zero);
        f.select(below, raised, rest)
    })
}
