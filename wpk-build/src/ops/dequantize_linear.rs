//! [DequantizeLinear](https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html): `(x - zero_point) * scale`, per tensor or along an axis.

use super::quantize_linear::aligned;
use super::{Context, Imported, OpDef};
use crate::onnx::dtype;
use wpk_plan::{Binary, DType};

pub(super) const OP: OpDef = OpDef { name: "DequantizeLinear", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let to = match cx.attrs.int("output_dtype").filter(|&t| t != 0) {
        Some(t) => dtype(t as i32).map_err(|t| format!("dequantization to {t} type is not supported"))?,
        None => cx.dtype(scale),
    };
    let mut inputs = vec![x, aligned(cx, scale, x)?];
    if let Some(zero) = cx.optional(2) {
        inputs.push(aligned(cx, zero, x)?);
    }
    let y = cx.b.map(&inputs, |f, i| {
        let wide = if f.dtype(i[0]).is_float() { DType::F32 } else { DType::I32 };
        let mut level = f.cast(i[0], wide);
        if let Some(&zero) = i.get(2) {
            let zero = f.cast(zero, wide);
            level = f.binary(Binary::Sub, level, zero);
        }
        let (level, scale) = (f.cast(level, DType::F32), f.cast(i[1], DType::F32));
        let y = f.binary(Binary::Mul, level, scale);
        f.cast(y, to)
    })?;
    Ok(vec![y])
}
