//! [BitShift](https://onnx.ai/onnx/operators/onnx__BitShift.html): shift of unsigned integers.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "BitShift", import };

fn import(cx: &mut Context<'_>) -> Imported {
    match cx.attrs.text("direction").as_deref() {
        Some("LEFT") => pointwise::binary(cx, Binary::Shl),
        Some("RIGHT") => pointwise::binary(cx, Binary::Shr),
        other => cx.unsupported("direction", other.unwrap_or("(none)")),
    }
}
