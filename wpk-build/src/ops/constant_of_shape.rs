//! [ConstantOfShape](https://onnx.ai/onnx/operators/onnx__ConstantOfShape.html): one value at extents that a constant gives.

use super::Refusal;
use super::expand::expanded;
use super::{Context, Imported, OpDef};
use crate::graph::Literal;
use crate::onnx::literal;
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "ConstantOfShape", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let shape = cx.sizes(0, "shape")?.ok_or("there is no shape")?;
    let value = match cx.attrs.get("value").and_then(|a| a.t.as_ref()) {
        Some(tensor) => literal(cx.source, tensor).map_err(|d| Refusal { message: d.message, help: d.help })?,
        None => Literal::floats(DType::F32, &[1], &[0.0]),
    };
    if value.len() != 1 {
        return Err(format!("value has {} elements", value.len()).into());
    }
    let value = cx.b.constant(Literal { shape: vec![], ..value });
    Ok(vec![expanded(cx, value, &shape)?])
}
