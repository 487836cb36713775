//! Products of quantized factors are sums of products of bytes, in 32 bits: `sum((x - z) w) = sum(x w) - z sum(w)`, where the padding of a
//! convolution is `z`. After Jacob et al., Quantization and Training of Neural Networks (2018), section 2.3.

use super::channels_last::{first, last};
use super::explicit_padding::around;
use super::rewrite::Rewrite;
use crate::graph::{Conv, Literal, Node, Op, ValueId};
use crate::quantized::{Activation, activation, weights};
use wpk_plan::problem::WindowKind;
use wpk_plan::{Binary, DType};

/// Most products of bytes whose sum certainly fits 32 bits.
const DEPTH: usize = 1 << 16;

/// Depth that tensor cores take products of bytes in, as copies of 16 bytes.
const PIECE: usize = 16;

/// The same for GPUs, whose other kernels multiply no bytes: dense products of a depth in whole pieces.
pub(super) fn on_tensor_cores(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    let [_, w] = *inputs else { return Ok(None) };
    let shape = cx.b.shape(w);
    let depth = match &node.op {
        Op::Conv(Conv { groups: 1, .. }) => shape[1],
        // Rows by columns, the depth innermost in the first factor.
        Op::Contract { a, b, out, .. } => {
            let summed: Vec<&u8> = b.iter().filter(|l| !out.contains(l)).collect();
            let last = a.last().filter(|l| summed == [*l]);
            last.and_then(|l| b.iter().position(|k| k == l)).map_or(0, |d| shape[d])
        }
        _ => 0,
    };
    if depth > 0 && depth.is_multiple_of(PIECE) { rule(cx, node, inputs) } else { Ok(None) }
}

pub(super) fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    if let Op::Window { kind: WindowKind::Max, indices: false, .. } = &node.op {
        return pooled(cx, node, inputs[0]);
    }
    let [x, w] = *inputs else { return Ok(None) };
    let (Some(a), Some(b)) = (activation(&cx.b.graph, x), weights(&cx.b.graph, w)) else { return Ok(None) };
    // The loops of the weights, and of the result.
    let (own, out): (Vec<u8>, Vec<u8>) = match &node.op {
        Op::Conv(Conv { transposed: false, channels_last: false, epilogue: None, pads, .. }) if pads.iter().all(|&p| p >= 0) => {
            let rank = pads.len() as u8 + 2;
            ([1].into_iter().chain(rank..2 * rank - 1).collect(), (0..rank).collect())
        }
        Op::Contract { b, out, epilogue: None, .. } => (b.clone(), out.clone()),
        _ => return Ok(None),
    };
    let depth: usize = own.iter().zip(&b.levels.shape).filter(|(l, _)| !out.contains(l)).map(|(_, &n)| n).product();
    let Some(factor) = factor(a.scale, b.scale.as_ref(), &own, &out) else { return Ok(None) };
    if depth > DEPTH {
        return Ok(None);
    }
    let mut op = node.op.clone();
    let mut levels = a.levels;
    if let (Op::Conv(conv), true) = (&mut op, a.zero != 0) {
        // With channels last, as the convolution will be.
        let (mut before, mut after) = around(conv, &cx.b.shape(levels)[2..], &b.levels.shape[2..]);
        for list in [&mut before, &mut after] {
            list.insert(0, 0);
            list.push(0);
        }
        levels = cx.b.transpose(levels, &last(before.len()))?;
        levels = cx.b.one(Op::Pad { before, after, fill: a.zero as u64 }, &[levels])?;
        levels = cx.b.transpose(levels, &first(cx.b.shape(levels).len()))?;
        conv.pads.fill(0);
    }
    let made_up = (a.zero != 0).then(|| sums(&b.levels, &own, &out, -a.zero));
    let columns = cx.b.constant(b.levels.clone());
    let mut y = cx.b.one(op, &[levels, columns])?;
    if let Some(made_up) = made_up {
        let made_up = cx.b.constant(made_up);
        y = cx.b.binary(Binary::Add, y, made_up)?;
    }
    if let Some(factor) = factor {
        let (y32, factor) = (cx.b.cast(y, DType::F32)?, cx.b.constant(factor));
        y = cx.b.binary(Binary::Mul, y32, factor)?;
    }
    cx.merge_origin(node, x);
    Ok(Some(vec![y]))
}

/// The largest of some numbers is that of the largest level.
fn pooled(cx: &mut Rewrite<'_>, node: &Node, x: ValueId) -> Result<Option<Vec<ValueId>>, String> {
    let Some(Activation { levels, scale: Some(scale), .. }) = activation(&cx.b.graph, x) else { return Ok(None) };
    let Some((Op::Map { function, .. }, _)) = cx.b.graph.op(x) else { return Ok(None) };
    if scale <= 0.0 {
        return Ok(None);
    }
    let function = function.clone();
    let levels = cx.b.one(node.op.clone(), &[levels])?;
    let shape = cx.b.shape(levels);
    cx.b.add(Op::Map { function, shape }, &[levels]).map(Some)
}

/// Where each element of a tensor with loops `own` belongs in one that has extent 1 along the loops of `out` that it lacks.
fn places(shape: &[usize], own: &[u8], out: &[u8]) -> (Vec<usize>, Vec<usize>) {
    let extent = |l: &u8| own.iter().position(|m| m == l).map_or(1, |d| shape[d]);
    let extents: Vec<usize> = out.iter().map(extent).collect();
    let stride = |l: &u8| out.iter().position(|m| m == l).map_or(0, |d| extents[d + 1..].iter().product());
    let mut places = vec![0];
    for (l, &n) in own.iter().zip(shape) {
        let stride: usize = if n == 1 { 0 } else { stride(l) };
        places = places.iter().flat_map(|&p| (0..n).map(move |i| p + i * stride)).collect();
    }
    (extents, places)
}

/// The sums of the weights over the loops that the result lacks, times a factor.
fn sums(levels: &Literal, own: &[u8], out: &[u8], factor: i64) -> Literal {
    let (shape, places) = places(&levels.shape, own, out);
    let mut sums = vec![0i64; shape.iter().product()];
    levels.to_ints().iter().zip(places).for_each(|(x, at)| sums[at] += x * factor);
    Literal::ints(DType::I32, &shape, &sums)
}

/// What sums of levels are multiplied by: nothing for integers; `None` where it differs along a loop that is summed over, or only one of
/// both factors is floating.
fn factor(a: Option<f64>, b: Option<&Literal>, own: &[u8], out: &[u8]) -> Option<Option<Literal>> {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (None, None) => return Some(None),
        _ => return None,
    };
    let own = &own[own.len().checked_sub(b.shape.len())?..];
    if own.iter().zip(&b.shape).any(|(l, &n)| n > 1 && !out.contains(l)) {
        return None;
    }
    let (shape, places) = places(&b.shape, own, out);
    let mut factors = vec![0.0; shape.iter().product()];
    b.to_floats().iter().zip(places).for_each(|(x, at)| factors[at] = a * x);
    Some(Some(Literal::floats(DType::F32, &shape, &factors)))
}
