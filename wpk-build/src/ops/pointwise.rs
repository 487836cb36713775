//! What pointwise operators share.

use super::context::{Context, Imported};
use crate::graph::ValueId;
use wpk_plan::{Binary, ScalarFn, Unary};

/// A named function of one value.
pub fn unary(cx: &mut Context<'_>, f: Unary) -> Imported {
    apply(cx, |s, x| s.unary(f, x))
}

/// A scalar function of the first input.
pub fn apply(cx: &mut Context<'_>, f: impl FnOnce(&mut ScalarFn, u16) -> u16) -> Imported {
    let x = cx.input(0)?;
    Ok(vec![cx.b.map(&[x], |s, i| f(s, i[0]))?])
}

/// A named function of two values, broadcast.
pub fn binary(cx: &mut Context<'_>, f: Binary) -> Imported {
    let (x, y) = operands(cx)?;
    Ok(vec![cx.b.binary(f, x, y)?])
}

/// The same with the operands exchanged.
pub fn flipped(cx: &mut Context<'_>, f: Binary) -> Imported {
    let (x, y) = operands(cx)?;
    Ok(vec![cx.b.binary(f, y, x)?])
}

/// A function folded over any number of inputs.
pub fn variadic(cx: &mut Context<'_>, f: Binary) -> Imported {
    let inputs = cx.all()?;
    let mut total = *inputs.first().ok_or("there is no input")?;
    for &next in &inputs[1..] {
        total = cx.b.binary(f, total, next)?;
    }
    Ok(vec![total])
}

/// Both operands; before version 7 the second broadcasts along attribute `axis`.
fn operands(cx: &mut Context<'_>) -> Result<(ValueId, ValueId), super::Refusal> {
    let (x, y) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.attrs.int("axis");
    if cx.opset >= 7 || !cx.attrs.flag("broadcast", false) {
        return Ok((x, y));
    }
    let (rank, mut shape) = (cx.shape(x).len(), cx.shape(y));
    if let Some(axis) = axis {
        let axis = cx.axis(axis, rank)?;
        shape.resize(shape.len().max(rank - axis), 1);
    }
    let y = cx.b.reshape(y, &shape)?;
    Ok((x, y))
}
