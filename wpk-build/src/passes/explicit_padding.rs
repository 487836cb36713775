//! Padding of few channels becomes an operation of its own, so that a row of the window is one run of memory.

use super::rewrite::Rewrite;
use crate::graph::{Conv, Node, Op, ValueId};

pub(super) fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    let Op::Conv(conv) = &node.op else { return Ok(None) };
    let (x, w) = (cx.b.shape(inputs[0]), cx.b.shape(inputs[1]));
    if !conv.channels_last || conv.epilogue.is_some() || conv.pads.iter().all(|&p| p == 0) {
        return Ok(None);
    }
    let Some((before, after)) = explicit_padding(conv, &x, &w) else { return Ok(None) };
    let padded = cx.b.one(Op::Pad { before, after, fill: 0 }, &[inputs[0]])?;
    let conv = Conv { pads: vec![0; conv.pads.len()], ..conv.clone() };
    cx.b.one(Op::Conv(conv), &[padded, inputs[1]]).map(|y| Some(vec![y]))
}

/// Channels per group up to which padding is written out, so that a row of the window is one run of memory.
const FEW: usize = 4;

/// Padding before and after each channels-last dimension of a convolution of few channels.
fn explicit_padding(conv: &Conv, x: &[usize], w: &[usize]) -> Option<(Vec<usize>, Vec<usize>)> {
    let rank = conv.out.len();
    if conv.transposed || conv.groups != 1 || x[rank + 1] > FEW || conv.pads.iter().any(|&p| p < 0) {
        return None;
    }
    let (before, after) = around(conv, &x[1..=rank], &w[2..]);
    let with_ends = |list: Vec<usize>| [0].into_iter().chain(list).chain([0]).collect();
    Some((with_ends(before), with_ends(after)))
}

/// How much a convolution reads before and after each spatial dimension.
pub(super) fn around(conv: &Conv, x: &[usize], window: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let after = |d: usize| {
        let reach = (conv.out[d].max(1) - 1) * conv.strides[d] + window[d].saturating_sub(1) * conv.dilations[d] + 1;
        reach.saturating_sub(x[d] + conv.pads[d] as usize)
    };
    (conv.pads.iter().map(|&p| p as usize).collect(), (0..x.len()).map(after).collect())
}
