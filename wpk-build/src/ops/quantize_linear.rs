//! [QuantizeLinear](https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html): `saturate(round(x / scale) + zero_point)`, per tensor or along an axis.

use super::cast::saturated;
use super::{Context, Imported, OpDef, Refusal};
use crate::graph::{Op, ValueId};
use crate::onnx::dtype;
use wpk_plan::minifloat::Format;
use wpk_plan::{Binary, DType, Unary};

pub(super) const OP: OpDef = OpDef { name: "QuantizeLinear", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let zero = cx.optional(2);
    let named = cx.attrs.int("output_dtype").filter(|&t| t != 0);
    let to = match (zero, named) {
        (Some(zero), _) => cx.dtype(zero),
        (None, Some(t)) => dtype(t as i32).map_err(|t| format!("quantization to {t} type is not supported"))?,
        (None, None) => DType::U8,
    };
    let source = cx.dtype(x);
    let scale = aligned(cx, scale, x)?;
    let mut inputs = vec![cx.b.cast(x, DType::F32)?, cx.b.cast(scale, DType::F32)?];
    if let Some(zero) = zero {
        inputs.push(aligned(cx, zero, x)?);
    }
    let format = Format::of(to);
    if source.is_int() && source != DType::I32 || !to.is_int() && format.is_none() {
        return Err(format!("quantization of {source} to {to} is not supported").into());
    }
    if let Some(format) = format {
        // Zero points of floating types are zero.
        let level = cx.b.binary(Binary::Div, inputs[0], inputs[1])?;
        let saturate = cx.attrs.flag("saturate", true);
        return Ok(vec![if saturate { saturated(cx, level, format.max(), to)? } else { cx.b.cast(level, to)? }]);
    }
    let (low, high) = to.int_range();
    let y = cx.b.map(&inputs, |f, i| {
        let quotient = f.binary(Binary::Div, i[0], i[1]);
        let mut level = f.unary(Unary::Round, quotient);
        if let Some(&zero) = i.get(2) {
            let zero = f.cast(zero, DType::F32);
            level = f.binary(Binary::Add, level, zero);
        }
        let (low, high) = (f.constant(low as f64, DType::F32), f.constant(high as f64, DType::F32));
        let bounded = f.binary(Binary::Max, level, low);
        let bounded = f.binary(Binary::Min, bounded, high);
        f.cast(bounded, to)
    })?;
    Ok(vec![y])
}

/// A scale or zero point so that it broadcasts against `x`: along `axis` where it is a vector, one for each block along it where a
/// block size is given.
pub(super) fn aligned(cx: &mut Context<'_>, v: ValueId, x: ValueId) -> Result<ValueId, Refusal> {
    let (shape, rank) = (cx.shape(v), cx.shape(x).len());
    if let Some(block) = cx.attrs.int("block_size").and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0) {
        let axis = cx.axis(cx.attrs.int("axis").unwrap_or(1), rank)?;
        let extents = cx.shape(x);
        let fits = |d: usize| if d == axis { shape[d] == extents[d].div_ceil(block) } else { shape[d] == extents[d] };
        if shape.len() != rank || !(0..rank).all(fits) {
            return Err(format!("a scale of {shape:?} does not fit blocks of {block} in {extents:?}").into());
        }
        let mut split = shape.clone();
        split.insert(axis + 1, 1);
        let v = cx.b.reshape(v, &split)?;
        split[axis + 1] = block;
        let v = cx.b.one(Op::Expand(split), &[v])?;
        let mut joined = shape;
        joined[axis] *= block;
        let v = cx.b.reshape(v, &joined)?;
        return Ok(cx.b.range(v, axis, 0, extents[axis])?);
    }
    if shape.iter().product::<usize>() == 1 {
        return Ok(cx.b.reshape(v, &[])?);
    }
    if shape.len() != 1 {
        return Err(format!("a scale of {shape:?} is not supported").into());
    }
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(1), rank)?;
    cx.along(v, axis, rank)
}
