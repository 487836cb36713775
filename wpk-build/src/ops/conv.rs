//! [Conv](https://onnx.ai/onnx/operators/onnx__Conv.html): convolution over any number of spatial dimensions.

use super::Refusal;
use super::spatial::{rank, spatial};
use super::{Context, Imported, OpDef};
use crate::graph::{Conv, Op, ValueId};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Conv", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let y = convolve(cx, x, w)?;
    let rank = cx.shape(y).len() - 2;
    Ok(vec![add_bias(cx, y, rank)?])
}

/// The convolution that the node's attributes describe.
pub(super) fn convolve(cx: &mut Context<'_>, x: ValueId, w: ValueId) -> Result<ValueId, Refusal> {
    let (shape, weights) = (cx.shape(x), cx.shape(w));
    let rank = rank(&shape, &weights)?;
    let mut window = spatial(cx, rank)?;
    let out = window.resolve(&shape[2..], &weights[2..], false)?;
    let groups = cx.attrs.int("group").unwrap_or(1).max(0) as usize;
    let conv = Conv {
        strides: window.strides,
        pads: window.begin,
        dilations: window.dilations,
        groups,
        transposed: false,
        out,
        channels_last: false,
        epilogue: None,
    };
    Ok(cx.b.one(Op::Conv(conv), &[x, w])?)
}

/// Adds the bias in input 2 along the channels.
pub(super) fn add_bias(cx: &mut Context<'_>, y: ValueId, rank: usize) -> Result<ValueId, Refusal> {
    add_bias_of(cx, y, 2, rank)
}

/// Adds the bias in some input along the channels.
pub(super) fn add_bias_of(cx: &mut Context<'_>, y: ValueId, input: usize, rank: usize) -> Result<ValueId, Refusal> {
    let Some(bias) = cx.optional(input) else { return Ok(y) };
    let bias = cx.along(bias, 1, rank + 2)?;
    Ok(cx.b.binary(Binary::Add, y, bias)?)
}
