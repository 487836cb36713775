//! [Clip](https://onnx.ai/onnx/operators/onnx__Clip.html): limits to a range; the bounds are attributes before version 11, then inputs.

use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Clip", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let t = cx.dtype(x);
    let mut y = x;
    for (i, name, bound) in [(1, "min", Binary::Max), (2, "max", Binary::Min)] {
        let limit = match (cx.optional(i), cx.attrs.float(name)) {
            (Some(v), _) => v,
            (None, Some(f)) => cx.b.scalar(f, t),
            (None, None) => continue,
        };
        y = cx.b.binary(bound, y, limit)?;
    }
    Ok(vec![y])
}
