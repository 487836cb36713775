//! [Gelu](https://onnx.ai/onnx/operators/onnx__Gelu.html): Gaussian error linear unit, exact or by its tanh approximation. Version 20.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Unary;

pub(super) const OP: OpDef = OpDef { name: "Gelu", import };

fn import(cx: &mut Context<'_>) -> Imported {
    match cx.attrs.text("approximate").as_deref() {
        None | Some("none") => pointwise::unary(cx, Unary::Gelu),
        Some("tanh") => pointwise::unary(cx, Unary::GeluTanh),
        Some(other) => cx.unsupported("approximate", other),
    }
}
