//! [com.microsoft::Gelu](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.Gelu): the exact Gaussian error linear unit.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "com.microsoft::Gelu", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::unary(cx, Unary::Gelu)
}
