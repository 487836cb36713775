//! What reductions share: their axes, and whether the reduced dimensions stay.

use super::Refusal;
use super::context::{Context, Imported};
use crate::graph::ValueId;
use wpk_plan::problem::ReduceKind;

/// A reduction between two maps: `after(reduce(before(x)))`.
pub fn reduce(cx: &mut Context<'_>, kind: ReduceKind) -> Imported {
    let x = cx.input(0)?;
    reduce_with(cx, x, |cx, x, axes| Ok(cx.b.reduce(kind, x, axes)?))
}

/// A reduction made of several operations, which keep the reduced dimensions.
pub fn reduce_with(
    cx: &mut Context<'_>,
    x: ValueId,
    f: impl FnOnce(&mut Context<'_>, ValueId, &[usize]) -> Result<ValueId, Refusal>,
) -> Imported {
    let shape = cx.shape(x);
    let given = cx.ints(1, "axes")?.filter(|a| !a.is_empty());
    let keep = cx.attrs.flag("keepdims", true);
    let axes = match given {
        Some(axes) => cx.axes(&axes, shape.len())?,
        None if cx.attrs.flag("noop_with_empty_axes", false) => vec![],
        None => (0..shape.len()).collect(),
    };
    let y = f(cx, x, &axes)?;
    if keep {
        return Ok(vec![y]);
    }
    let kept: Vec<usize> = (0..shape.len()).filter(|d| !axes.contains(d)).map(|d| shape[d]).collect();
    Ok(vec![cx.b.reshape(y, &kept)?])
}
