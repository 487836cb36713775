//! [com.microsoft::QuickGelu](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QuickGelu): `x * sigmoid(alpha * x)`.

use super::{Context, Imported, OpDef};
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "com.microsoft::QuickGelu", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, alpha) = (cx.input(0)?, cx.attrs.float("alpha").unwrap_or(1.702));
    let y = cx.b.map(&[x], |f, i| {
        let alpha = f.constant(alpha, f.dtype(i[0]));
        let scaled = f.binary(Binary::Mul, i[0], alpha);
        let gate = f.unary(Unary::Sigmoid, scaled);
        f.binary(Binary::Mul, i[0], gate)
    })?;
    Ok(vec![y])
}
