//! [com.microsoft::FastGelu](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.FastGelu): the Gaussian error linear unit by tanh, of a sum where there is a bias.

use super::{Context, Imported, OpDef};
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "com.microsoft::FastGelu", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let mut x = cx.input(0)?;
    if let Some(bias) = cx.optional(1) {
        x = cx.b.binary(Binary::Add, x, bias)?;
    }
    Ok(vec![cx.b.unary(Unary::GeluTanh, x)?])
}
