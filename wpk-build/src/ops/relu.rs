//! [Relu](https://onnx.ai/onnx/operators/onnx__Relu.html): `max(x, 0)`.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Relu", import };

fn import(cx: &mut Context<'_>) -> Imported {
    pointwise::apply(cx, |f, x| {
        let zero = f.constant(0.0, f.dtype(x));
        f.binary(Binary::Max, x, zero)
    })
}
