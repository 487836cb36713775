//! [RandomNormalLike](https://onnx.ai/onnx/operators/onnx__RandomNormalLike.html): numbers of a mean and a deviation, as many as the input has.

use super::random::{Spread, alike};
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "RandomNormalLike", import };

fn import(cx: &mut Context<'_>) -> Imported {
    alike(cx, Spread::Normal)
}
