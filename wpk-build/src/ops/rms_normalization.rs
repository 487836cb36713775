//! [RMSNormalization](https://onnx.ai/onnx/operators/onnx__RMSNormalization.html): normalization by the root of the mean of squares, over the dimensions from an axis on.

use super::layer_normalization::normalize;
use super::{Context, Imported, OpDef};
use wpk_plan::problem::NormKind;

pub(super) const OP: OpDef = OpDef { name: "RMSNormalization", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let rank = cx.shape(cx.input(0)?).len();
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), rank)?;
    let epsilon = cx.attrs.float("epsilon").unwrap_or(1e-5);
    Ok(vec![normalize(cx, NormKind::Rms, axis, epsilon, None)?])
}
