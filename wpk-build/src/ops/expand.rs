//! [Expand](https://onnx.ai/onnx/operators/onnx__Expand.html): broadcast to extents that a constant gives, in both directions.

use super::{Context, Imported, OpDef, Refusal};
use crate::graph::{Bound, Linear, Op, ValueId, broadcast};

pub(super) const OP: OpDef = OpDef { name: "Expand", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let wanted = cx.sizes(1, "shape")?.ok_or("there is no shape")?;
    Ok(vec![expanded(cx, x, &wanted)?])
}

/// A value broadcast to extents.
pub fn expanded(cx: &mut Context<'_>, x: ValueId, wanted: &[Linear]) -> Result<ValueId, Refusal> {
    let (from, most) = (cx.shape(x), cx.extents(wanted, "shape")?);
    let shape = broadcast(&[&from, &most])?;
    let out = cx.b.one(Op::Expand(shape.clone()), &[x])?;
    let behind = shape.len() - wanted.len();
    let open = wanted.iter().enumerate().filter(|n| n.1.known().is_none());
    let repeated: Vec<Bound> = open
        .map(|(i, n)| Bound::first(i + behind, n.clone(), shape[i + behind]))
        .filter(|n| (n.axis + from.len()).checked_sub(shape.len()).is_none_or(|d| from[d] == 1))
        .collect();
    let out = cx.b.bound(out, &repeated);
    cx.agree(out, behind, wanted)?;
    Ok(out)
}
