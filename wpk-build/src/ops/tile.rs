//! [Tile](https://onnx.ai/onnx/operators/onnx__Tile.html): the whole repeated along each dimension.

use super::expand::expanded;
use super::{Context, Imported, OpDef};
use crate::graph::Linear;

pub(super) const OP: OpDef = OpDef { name: "Tile", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let given = cx.sizes(1, "repeats")?.ok_or("there are no repeats")?;
    let repeats = cx.extents(&given, "repeats")?;
    if repeats.len() != shape.len() {
        return Err(format!("repeats {repeats:?} do not fit {shape:?}").into());
    }
    let pairs = |first: &[usize]| first.iter().zip(&shape).flat_map(|(&r, &n)| [r, n]).collect::<Vec<_>>();
    let x = cx.b.reshape(x, &pairs(&vec![1; shape.len()]))?;
    let wanted: Vec<Linear> = given.into_iter().zip(&shape).flat_map(|(r, &n)| [r, Linear::constant(n as i64)]).collect();
    let x = expanded(cx, x, &wanted)?;
    let out: Vec<usize> = shape.iter().zip(&repeats).map(|(&n, &r)| n.saturating_mul(r)).collect();
    Ok(vec![cx.b.reshape(x, &out)?])
}
