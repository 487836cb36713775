//! [ConvTranspose](https://onnx.ai/onnx/operators/onnx__ConvTranspose.html): transposed convolution.

use super::conv::add_bias;
use super::spatial::{Auto, rank, spatial};
use super::{Context, Imported, OpDef};
use crate::graph::{Conv, Op};

pub(super) const OP: OpDef = OpDef { name: "ConvTranspose", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let (shape, weights) = (cx.shape(x), cx.shape(w));
    let rank = rank(&shape, &weights)?;
    let window = spatial(cx, rank)?;
    let extra = cx.attrs.ints("output_padding").unwrap_or_else(|| vec![0; rank]);
    let wanted = cx.attrs.ints("output_shape");
    if extra.len() != rank || wanted.as_ref().is_some_and(|w| w.len() < rank) {
        return Err("output_padding or output_shape does not fit the spatial dimensions".into());
    }
    let (mut out, mut pads) = (vec![], vec![]);
    for d in 0..rank {
        let stride = window.strides[d] as i64;
        let reach = (weights[2 + d] as i64 - 1).saturating_mul(window.dilations[d] as i64).saturating_add(1);
        let whole = stride.saturating_mul(shape[2 + d] as i64 - 1).saturating_add(extra[d]).saturating_add(reach).min(1 << 48);
        let same = matches!(window.auto, Some(Auto::Upper | Auto::Lower)).then_some((shape[2 + d] as i64).saturating_mul(stride));
        let target = wanted.as_ref().map(|w| w[w.len() - rank + d]).or(same);
        let (begin, n) = match target {
            Some(n) => {
                let total = whole.saturating_sub(n).max(0);
                (if window.auto == Some(Auto::Upper) || window.auto.is_none() { total / 2 } else { total - total / 2 }, n)
            }
            None => (window.begin[d], whole - window.begin[d] - window.end[d]),
        };
        out.push(usize::try_from(n).map_err(|_| "the result has no extent")?);
        pads.push(begin);
    }
    let groups = cx.attrs.int("group").unwrap_or(1).max(0) as usize;
    let conv = Conv {
        strides: window.strides,
        pads,
        dilations: window.dilations,
        groups,
        transposed: true,
        out,
        channels_last: false,
        epilogue: None,
    };
    let y = cx.b.one(Op::Conv(conv), &[x, w])?;
    Ok(vec![add_bias(cx, y, rank)?])
}
