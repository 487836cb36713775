//! [Size](https://onnx.ai/onnx/operators/onnx__Size.html): the number of elements as a constant.

use super::{Context, Imported, OpDef};
use crate::graph::Literal;
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "Size", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let len: usize = cx.shape(cx.input(0)?).iter().product();
    Ok(vec![cx.b.constant(Literal::ints(DType::I64, &[], &[len as i64]))])
}
