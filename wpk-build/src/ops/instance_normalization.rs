//! [InstanceNormalization](https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html): normalization of every channel of every sample.

use super::group_normalization::{normalize_groups, scale_channels};
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "InstanceNormalization", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let channels = *cx.shape(x).get(1).ok_or("the input has no channels")?;
    let epsilon = cx.attrs.float("epsilon").unwrap_or(1e-5);
    let y = normalize_groups(cx, x, channels, epsilon)?;
    Ok(vec![scale_channels(cx, y)?])
}
