//! [com.microsoft::BiasGelu](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BiasGelu): the exact Gaussian error linear unit of a sum.

use super::{Context, Imported, OpDef};
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "com.microsoft::BiasGelu", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let sum = cx.b.binary(Binary::Add, cx.input(0)?, cx.input(1)?)?;
    Ok(vec![cx.b.unary(Unary::Gelu, sum)?])
}
