//! [Split](https://onnx.ai/onnx/operators/onnx__Split.html): parts along a dimension, of given or equal extents.

use super::context::unsigned;
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "Split", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), shape.len())?;
    let n = shape[axis];
    let parts = match cx.ints(1, "split")? {
        Some(split) => unsigned(&split, "split")?,
        None => {
            let count = cx.attrs.int("num_outputs").map_or(cx.wanted.len(), |n| n.max(1) as usize);
            if count > 1 << 20 {
                return cx.unsupported("num_outputs", count);
            }
            let each = n.div_ceil(count.max(1));
            (0..count).map(|i| each.min(n.saturating_sub(i * each))).collect()
        }
    };
    let total = parts.iter().fold(0usize, |sum, &part| sum.saturating_add(part));
    if total != n || parts.len() < cx.wanted.len() {
        return Err(format!("parts {parts:?} do not make up {n} for {} outputs", cx.wanted.len()).into());
    }
    let mut at = 0;
    let mut outputs = vec![];
    for part in parts {
        outputs.push(cx.b.range(x, axis, at, part)?);
        at += part;
    }
    Ok(outputs)
}
