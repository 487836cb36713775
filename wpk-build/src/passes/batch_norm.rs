//! A constant factor per output channel after a convolution or matrix product moves into its weights.

use super::pattern::{Term, binary};
use super::rewrite::{NotFused, Rewrite};
use crate::graph::{Node, Op, ValueId};
use wpk_plan::Binary;

pub(super) fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    if !matches!(node.op, Op::Map { .. }) {
        return Ok(None);
    }
    let outputs = cx.b.add(node.op.clone(), inputs)?;
    let Some((Term::Value(p), Term::Value(q))) = binary(&cx.b.graph, outputs[0], Binary::Mul) else { return Ok(Some(outputs)) };
    let factor = |v: ValueId| cx.b.graph.literal(v).is_some();
    let (x, factor) = match (factor(p), factor(q)) {
        (false, true) => (p, q),
        (true, false) => (q, p),
        _ => return Ok(Some(outputs)),
    };
    // The sum may have a constant bias, which is scaled too.
    let bias = match binary(&cx.b.graph, x, Binary::Add) {
        Some((Term::Value(y), Term::Value(b))) if cx.b.graph.literal(b).is_some() => Some((y, b)),
        _ => None,
    };
    let sum = bias.map_or(x, |b| b.0);
    if !cx.single(x) || !cx.single(sum) {
        if weighted(cx, sum).is_some() {
            cx.refuse(node, sum, NotFused::Shared);
        }
        return Ok(Some(outputs));
    }
    let Some((op, operands, channel)) = weighted(cx, sum) else { return Ok(Some(outputs)) };
    if cx.b.graph.literal(operands[1]).is_none() {
        cx.refuse(node, sum, NotFused::NotConstant);
        return Ok(Some(outputs));
    }
    let Some(vector) = per_channel(cx, factor, sum, channel)? else {
        cx.refuse(node, sum, NotFused::ShapeDiffers);
        return Ok(Some(outputs));
    };
    cx.merge_origin(node, sum);
    let Some(along) = weights_axis(&op, &cx.b.shape(operands[1])) else { return Ok(Some(outputs)) };
    let rank = cx.b.shape(operands[1]).len();
    let mut shape = vec![1; rank - along];
    shape[0] = cx.b.shape(vector).iter().product();
    let scale = cx.b.reshape(vector, &shape)?;
    let weights = cx.b.binary(Binary::Mul, operands[1], scale)?;
    if cx.b.graph.literal(weights).is_none() {
        return Ok(Some(outputs));
    }
    let y = cx.b.one(op, &[operands[0], weights])?;
    let Some((_, b)) = bias else { return Ok(Some(vec![y])) };
    let b = cx.b.binary(Binary::Mul, b, factor)?;
    cx.b.binary(Binary::Add, y, b).map(|y| Some(vec![y]))
}

/// A sum of products by weights, with the dimension of its channels.
fn weighted(cx: &Rewrite<'_>, v: ValueId) -> Option<(Op, Vec<ValueId>, usize)> {
    let (op, inputs) = cx.b.graph.op(v)?;
    match op {
        Op::Conv(c) if c.epilogue.is_none() && !c.channels_last => Some((op.clone(), inputs.to_vec(), 1)),
        Op::Contract { epilogue: None, out, .. } => Some((op.clone(), inputs.to_vec(), out.len().checked_sub(1)?)),
        _ => None,
    }
}

/// The dimension of the weights that is the output's channel.
fn weights_axis(op: &Op, shape: &[usize]) -> Option<usize> {
    match op {
        Op::Conv(c) if !c.transposed => Some(0),
        Op::Conv(c) if c.groups == 1 && shape.len() > 1 => Some(1),
        Op::Contract { b, out, a, .. } => {
            let label = out.last()?;
            if a.contains(label) { None } else { b.iter().position(|l| l == label) }
        }
        _ => None,
    }
}

/// A factor as a vector over the channels, where it varies along nothing else.
fn per_channel(cx: &mut Rewrite<'_>, factor: ValueId, sum: ValueId, channel: usize) -> Result<Option<ValueId>, String> {
    let (shape, full) = (cx.b.shape(factor), cx.b.shape(sum));
    let Some(lead) = full.len().checked_sub(shape.len()) else { return Ok(None) };
    let n = full[channel];
    let fits = shape.iter().enumerate().all(|(d, &e)| e == if lead + d == channel { n } else { 1 });
    if fits && shape.iter().product::<usize>() == n { cx.b.reshape(factor, &[n]).map(Some) } else { Ok(None) }
}
