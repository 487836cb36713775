//! [OptionalHasElement](https://onnx.ai/onnx/operators/onnx__OptionalHasElement.html): whether an input is given.

use super::{Context, Imported, OpDef};
use crate::graph::Literal;
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "OptionalHasElement", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let given = i64::from(cx.optional(0).is_some());
    Ok(vec![cx.b.constant(Literal::ints(DType::Bool, &[], &[given]))])
}
