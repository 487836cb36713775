//! [Constant](https://onnx.ai/onnx/operators/onnx__Constant.html): a constant from an attribute.

use super::Refusal;
use super::{Context, Imported, OpDef};
use crate::graph::Literal;
use crate::onnx::literal;
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "Constant", import };

fn import(cx: &mut Context<'_>) -> Imported {
    if let Some(tensor) = cx.attrs.get("value").and_then(|a| a.t.as_ref()) {
        let literal = literal(cx.source, tensor).map_err(|d| Refusal { message: d.message, help: d.help })?;
        return Ok(vec![cx.b.constant(literal)]);
    }
    let (f, i) = (DType::F32, DType::I64);
    let literal = if let Some(x) = cx.attrs.float("value_float") {
        Literal::floats(f, &[], &[x])
    } else if let Some(x) = cx.attrs.floats("value_floats") {
        Literal::floats(f, &[x.len()], &x)
    } else if let Some(x) = cx.attrs.int("value_int") {
        Literal::ints(i, &[], &[x])
    } else if let Some(x) = cx.attrs.ints("value_ints") {
        Literal::ints(i, &[x.len()], &x)
    } else {
        return Err("only dense constants of numbers are supported".into());
    };
    Ok(vec![cx.b.constant(literal)])
}
