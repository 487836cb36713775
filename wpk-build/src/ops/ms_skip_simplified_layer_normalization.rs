//! [com.microsoft::SkipSimplifiedLayerNormalization](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.SkipSimplifiedLayerNormalization): normalization of a sum by the root of
//! the mean of its squares.

use super::skipping::skip;
use super::{Context, Imported, OpDef};
use wpk_plan::problem::NormKind;

pub(super) const OP: OpDef = OpDef { name: "com.microsoft::SkipSimplifiedLayerNormalization", import };

fn import(cx: &mut Context<'_>) -> Imported {
    skip(cx, NormKind::Rms, None, 3)
}
