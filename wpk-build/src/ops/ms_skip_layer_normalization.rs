//! [com.microsoft::SkipLayerNormalization](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.SkipLayerNormalization): layer normalization of a sum.

use super::skipping::skip;
use super::{Context, Imported, OpDef};
use wpk_plan::problem::NormKind;

pub(super) const OP: OpDef = OpDef { name: "com.microsoft::SkipLayerNormalization", import };

fn import(cx: &mut Context<'_>) -> Imported {
    skip(cx, NormKind::Layer, Some(3), 4)
}
