//! [Gather](https://onnx.ai/onnx/operators/onnx__Gather.html): slices along a dimension by an index tensor.

use super::{Context, Imported, OpDef, Refusal};
use crate::graph::{Op, ValueId};

pub(super) const OP: OpDef = OpDef { name: "Gather", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, index) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), cx.shape(x).len())?;
    if let Some(slice) = slice(cx, x, index, axis)? {
        return Ok(vec![slice]);
    }
    Ok(vec![cx.b.one(Op::Gather { axis }, &[x, index])?])
}

/// A range where the index is a constant of evenly spaced positions, which a view of the tensor is.
fn slice(cx: &mut Context<'_>, x: ValueId, index: ValueId, axis: usize) -> Result<Option<ValueId>, Refusal> {
    let shape = cx.shape(x);
    let Some(literal) = cx.b.graph.literal(index).filter(|l| !l.is_empty() && l.len() <= shape[axis]) else { return Ok(None) };
    let n = shape[axis] as i64;
    let from_start = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let positions: Vec<i64> = literal.to_ints().into_iter().map(from_start).collect();
    if !positions.iter().all(|p| (0..n).contains(p)) {
        return Ok(None);
    }
    let step = positions.get(1).map_or(1, |p| p - positions[0]);
    if step == 0 || positions.windows(2).any(|p| p[1] - p[0] != step) {
        return Ok(None);
    }
    let extents = [&shape[..axis], &cx.shape(index), &shape[axis + 1..]].concat();
    let (mut start, mut steps, mut count) = (vec![0; shape.len()], vec![1; shape.len()], shape);
    (start[axis], steps[axis], count[axis]) = (positions[0] as usize, step, positions.len());
    let range = cx.b.one(Op::Slice { start, step: steps, count }, &[x])?;
    Ok(Some(cx.b.reshape(range, &extents)?))
}
