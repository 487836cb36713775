//! [Gather](https://onnx.ai/onnx/operators/onnx__Gather.html): slices along a dimension by an index tensor.

use super::{Context, Imported, OpDef, Refusal};
use crate::graph::moved::{Range, sliced};
use crate::graph::{Linear, Op, ValueId};

pub(super) const OP: OpDef = OpDef { name: "Gather", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, index) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), cx.shape(x).len())?;
    if let Some(slice) = slice(cx, x, index, axis)? {
        return Ok(vec![slice]);
    }
    for special in [one, all] {
        if let Some(found) = special(cx, x, index, axis)? {
            return Ok(vec![found]);
        }
    }
    Ok(vec![cx.b.one(Op::Gather { axis }, &[x, index])?])
}

/// A range where the index is a constant of evenly spaced positions, which a view of the tensor is.
fn slice(cx: &mut Context<'_>, x: ValueId, index: ValueId, axis: usize) -> Result<Option<ValueId>, Refusal> {
    let shape = cx.shape(x);
    let Some(literal) = cx.b.fixed(index).filter(|l| !l.is_empty() && l.len() <= shape[axis]) else { return Ok(None) };
    let n = shape[axis] as i64;
    if cx.b.extent(x, axis).is_ok_and(|n| n.known().is_none()) && literal.to_ints().iter().any(|i| *i < 0) {
        return Ok(None);
    }
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

/// One position that follows from sizes that are known at run time only, as the last one of a dimension does.
fn one(cx: &mut Context<'_>, x: ValueId, index: ValueId, axis: usize) -> Result<Option<ValueId>, Refusal> {
    let Ok(all) = cx.b.extent(x, axis) else { return Ok(None) };
    let Some(at) = cx.b.forms(index).filter(|f| f.len() == 1).and_then(|f| f.into_iter().next()) else { return Ok(None) };
    if all.known().is_some() && at.known().is_some() {
        return Ok(None);
    }
    let start = if cx.b.span(&at).1 < 0 { all.add(&at, 1) } else { Some(at) };
    let within = |n: &Linear| Some(cx.b.span(n).0 >= 0 && cx.b.span(&all.add(n, -1)?).0 > 0);
    let Some(start) = start.filter(|n| within(n) == Some(true)) else { return Ok(None) };
    let shape = cx.shape(x);
    let mut ranges = vec![None; shape.len()];
    ranges[axis] = Some(Range { start, step: 1, count: Linear::constant(1) });
    let taken = sliced(cx.b, x, &ranges)?;
    let extents = [&shape[..axis], &cx.shape(index), &shape[axis + 1..]].concat();
    Ok(Some(cx.b.reshape(taken, &extents)?))
}

/// Every element of a bounded dimension in its place, under the extents of the index: rows by their numbers times how many elements a row has, as exporters
/// write two indices as one.
fn all(cx: &mut Context<'_>, x: ValueId, index: ValueId, axis: usize) -> Result<Option<ValueId>, Refusal> {
    let (shape, bounds) = (cx.shape(x), cx.b.bounds_of(x));
    let (Some(row), Some(places)) = (bounds.iter().find(|r| r.axis == axis), cx.b.elements(index)) else { return Ok(None) };
    let in_place = |(i, n): (usize, &Linear)| {
        let (times, rest) = n.rest(&row.end)?;
        Some(i as i64 == times.checked_mul(row.period as i64)?.checked_add(rest)?)
    };
    if places.len() != shape[axis] || !places.iter().enumerate().all(|n| in_place(n) == Some(true)) {
        return Ok(None);
    }
    let out = cx.b.reshape(x, &[&shape[..axis], &cx.shape(index), &shape[axis + 1..]].concat())?;
    let exist = cx.b.bounds_of(out);
    let agree = cx.b.bounds_of(index).iter().all(|x| exist.iter().any(|y| (y.axis, &y.end, y.period) == (x.axis + axis, &x.end, x.period)));
    Ok(agree.then_some(out))
}
