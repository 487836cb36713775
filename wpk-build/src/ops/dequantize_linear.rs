//! [DequantizeLinear](https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html): `(x - zero_point) * scale`, per tensor or along an axis.

use super::quantize_linear::aligned;
use super::{Context, Imported, OpDef, Refusal};
use crate::graph::ValueId;
use crate::onnx::dtype;
use wpk_plan::{Binary, DType};

pub(super) const OP: OpDef = OpDef { name: "DequantizeLinear", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let to = match cx.attrs.int("output_dtype").filter(|&t| t != 0) {
        Some(t) => dtype(t as i32).map_err(|t| format!("dequantization to {t} type is not supported"))?,
        None => cx.dtype(scale),
    };
    let scale = aligned(cx, scale, x)?;
    let zero = cx.optional(2).map(|zero| aligned(cx, zero, x)).transpose()?;
    let (x, zero) = signed(cx, x, zero)?;
    let mut inputs = vec![x, scale];
    inputs.extend(zero);
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

/// Unsigned bytes that are computed at run time, and the level that stands for zero, as signed ones, 128 less: products take one kind.
pub(super) fn signed(cx: &mut Context<'_>, x: ValueId, zero: Option<ValueId>) -> Result<(ValueId, Option<ValueId>), Refusal> {
    if cx.dtype(x) != DType::U8 || cx.b.fixed(x).is_some() {
        return Ok((x, zero));
    }
    let less = |cx: &mut Context<'_>, v: ValueId, to: DType| {
        cx.b.map(&[v], |f, i| {
            let (wide, half) = (f.cast(i[0], DType::I32), f.integer(128, DType::I32));
            let level = f.binary(Binary::Sub, wide, half);
            f.cast(level, to)
        })
    };
    let zero = match zero {
        Some(zero) => less(cx, zero, DType::I32)?,
        None => cx.b.scalar(-128.0, DType::I32),
    };
    Ok((less(cx, x, DType::I8)?, Some(zero)))
}
