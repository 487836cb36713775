//! [CastLike](https://onnx.ai/onnx/operators/onnx__CastLike.html): conversion to the type of the second input.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "CastLike", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, to) = (cx.input(0)?, cx.dtype(cx.input(1)?));
    Ok(vec![super::cast::converted(cx, x, to)?])
}
