//! [CausalConvWithState](https://onnx.ai/onnx/operators/onnx__CausalConvWithState.html): a depthwise convolution along a sequence that continues an
//! earlier one, and the end of the sequence for the next.

use super::conv::add_bias;
use super::{Context, Imported, OpDef};
use crate::graph::{Conv, Op};
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "CausalConvWithState", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let (&[batch, channels, length], &[filters, 1, taps]) = (&cx.shape(x)[..], &cx.shape(w)[..]) else {
        return Err(format!("filters of {:?} do not fit a sequence of {:?}", cx.shape(w), cx.shape(x)).into());
    };
    if filters != channels || taps == 0 {
        return Err(format!("{filters} filters of {taps} taps do not fit {channels} channels").into());
    }
    let activation = cx.attrs.text("activation").unwrap_or_else(|| "none".to_owned());
    if !["none", "silu", "swish"].contains(&activation.as_str()) {
        return cx.unsupported("activation", &activation);
    }
    let before = match cx.optional(3) {
        Some(state) => state,
        None => {
            let zero = cx.b.scalar(0.0, cx.dtype(x));
            cx.b.one(Op::Expand(vec![batch, channels, taps - 1]), &[zero])?
        }
    };
    if cx.shape(before) != [batch, channels, taps - 1] {
        return Err(format!("a state of {:?} should be {:?}", cx.shape(before), [batch, channels, taps - 1]).into());
    }
    let whole = if taps == 1 { x } else { cx.b.one(Op::Concat(2), &[before, x])? };
    let conv = Conv {
        strides: vec![1],
        pads: vec![0],
        dilations: vec![1],
        groups: channels,
        transposed: false,
        out: vec![length],
        channels_last: false,
        epilogue: None,
    };
    let y = cx.b.one(Op::Conv(conv), &[whole, w])?;
    let mut y = add_bias(cx, y, 1)?;
    if activation != "none" {
        y = cx.b.map(&[y], |f, i| {
            let gate = f.unary(Unary::Sigmoid, i[0]);
            f.binary(Binary::Mul, i[0], gate)
        })?;
    }
    Ok(vec![y, cx.b.range(whole, 2, length, taps - 1)?])
}
