//! [SplitToSequence](https://onnx.ai/onnx/operators/onnx__SplitToSequence.html): a sequence of parts along a dimension, of given or equal extents, or of single elements.

use super::context::unsigned;
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "SplitToSequence", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(0), shape.len())?;
    let n = shape[axis];
    let (parts, keep) = match cx.constant(1, "split")? {
        Some(split) if split.shape.is_empty() => {
            let each = unsigned(&split.to_ints(), "split")?.first().copied().filter(|&e| e > 0).ok_or("split is 0")?;
            ((0..n.div_ceil(each)).map(|i| each.min(n - i * each)).collect(), true)
        }
        Some(split) => (unsigned(&split.to_ints(), "split")?, true),
        None => (vec![1; n.min(1 << 20)], cx.attrs.flag("keepdims", true)),
    };
    if parts.iter().try_fold(0usize, |s, &p| s.checked_add(p)) != Some(n) {
        return Err(format!("parts {parts:?} do not make up {n}").into());
    }
    let (mut at, mut values) = (0, vec![]);
    for part in parts {
        let v = cx.b.range(x, axis, at, part)?;
        let mut extents = cx.shape(v);
        if !keep {
            extents.remove(axis);
        }
        values.push(cx.b.reshape(v, &extents)?);
        at += part;
    }
    Ok(vec![cx.b.sequence(values)])
}
