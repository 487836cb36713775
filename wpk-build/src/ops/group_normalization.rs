//! [GroupNormalization](https://onnx.ai/onnx/operators/onnx__GroupNormalization.html): normalization of groups of channels; scale and bias per group in version 18, per channel since 21.

use super::Refusal;
use super::{Context, Imported, OpDef};
use crate::graph::{Op, ValueId};
use wpk_plan::Binary;
use wpk_plan::problem::NormKind;

pub(super) const OP: OpDef = OpDef { name: "GroupNormalization", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let groups = usize::try_from(cx.attrs.int("num_groups").unwrap_or(0)).unwrap_or(0);
    let epsilon = cx.attrs.float("epsilon").unwrap_or(1e-5);
    let channels = *cx.shape(x).get(1).ok_or("the input has no channels")?;
    if groups == 0 || channels % groups != 0 {
        return Err(format!("{channels} channels do not make {groups} groups").into());
    }
    for i in [1, 2] {
        let v = cx.input(i)?;
        if cx.opset < 21 && cx.shape(v) == [groups] && groups != channels {
            let column = cx.b.reshape(v, &[groups, 1])?;
            let spread = cx.b.one(Op::Expand(vec![groups, channels / groups]), &[column])?;
            cx.inputs[i] = Some(cx.b.reshape(spread, &[channels])?);
        }
    }
    let y = normalize_groups(cx, x, groups, epsilon)?;
    Ok(vec![scale_channels(cx, y)?])
}

/// Normalization over each of `groups` equal parts of a sample.
pub(super) fn normalize_groups(cx: &mut Context<'_>, x: ValueId, groups: usize, epsilon: f64) -> Result<ValueId, Refusal> {
    let shape = cx.shape(x);
    let rest = shape[1..].iter().product::<usize>().checked_div(groups).unwrap_or(0);
    let rows = cx.b.reshape(x, &[shape[0], groups, rest])?;
    let y = cx.b.one(Op::Normalize { kind: NormKind::Layer, epsilon, residual: false, scale: false, bias: false }, &[rows])?;
    Ok(cx.b.reshape(y, &shape)?)
}

/// Scale and bias of inputs 1 and 2 along the channels.
pub(super) fn scale_channels(cx: &mut Context<'_>, y: ValueId) -> Result<ValueId, Refusal> {
    let rank = cx.shape(y).len();
    let (scale, bias) = (cx.input(1)?, cx.input(2)?);
    let (scale, bias) = (cx.along(scale, 1, rank)?, cx.along(bias, 1, rank)?);
    let y = cx.b.binary(Binary::Mul, y, scale)?;
    Ok(cx.b.binary(Binary::Add, y, bias)?)
}
