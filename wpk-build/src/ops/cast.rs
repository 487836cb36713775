//! [Cast](https://onnx.ai/onnx/operators/onnx__Cast.html): conversion of elements: floating to integer truncates, and saturates from 8 bits
//! on; to a floating type of 8 bits, what is too large becomes the largest number unless `saturate` is off.

use super::{Context, Imported, OpDef, Refusal};
use crate::graph::ValueId;
use crate::onnx::dtype;
use wpk_plan::minifloat::Format;
use wpk_plan::{Binary, DType};

pub(super) const OP: OpDef = OpDef { name: "Cast", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let to = cx.attrs.int("to").unwrap_or(0);
    let to = dtype(to as i32).map_err(|t| format!("casts to {t} type are not supported"))?;
    Ok(vec![converted(cx, x, to)?])
}

/// A value in another type, as the node's attributes say.
pub(super) fn converted(cx: &mut Context<'_>, x: ValueId, to: DType) -> Result<ValueId, Refusal> {
    if let (DType::F8E8M0, Some(mode)) = (to, cx.attrs.text("round_mode").filter(|m| m != "up")) {
        return cx.unsupported("round_mode", &mode);
    }
    // To integers of less than a byte the lowest bits are taken.
    let x = if to.packed_bits() < 8 && cx.dtype(x).is_float() && !to.is_float() { cx.b.cast(x, DType::I32)? } else { x };
    match Format::of(to).filter(|_| cx.dtype(x) != to && cx.attrs.flag("saturate", true)) {
        Some(format) => Ok(saturated(cx, x, format.max(), to)?),
        None => Ok(cx.b.cast(x, to)?),
    }
}

/// A value brought between the least and the largest of a type, and converted.
pub(super) fn saturated(cx: &mut Context<'_>, x: ValueId, max: f64, to: DType) -> Result<ValueId, String> {
    let wide = if cx.dtype(x) == DType::F64 { x } else { cx.b.cast(x, DType::F32)? };
    cx.b.map(&[wide], |f, i| {
        let t = f.dtype(i[0]);
        let (low, high) = (f.constant(-max, t), f.constant(max, t));
        let y = f.binary(Binary::Max, i[0], low);
        let y = f.binary(Binary::Min, y, high);
        f.cast(y, to)
    })
}
