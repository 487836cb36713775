//! [Mod](https://onnx.ai/onnx/operators/onnx__Mod.html): remainder with the sign of the divisor, or with `fmod` of the dividend.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Mod", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let f = if cx.attrs.flag("fmod", false) { Binary::Rem } else { Binary::Mod };
    pointwise::binary(cx, f)
}
