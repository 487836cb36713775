//! [ConvInteger](https://onnx.ai/onnx/operators/onnx__ConvInteger.html): convolution of 8-bit integers less their zero points, in 32 bits.

use super::conv::convolve;
use super::{Context, Imported, OpDef, Refusal};
use crate::graph::ValueId;
use wpk_plan::{Binary, DType};

pub(super) const OP: OpDef = OpDef { name: "ConvInteger", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let (x, w) = (centred(cx, x, 2)?, centred(cx, w, 3)?);
    Ok(vec![convolve(cx, x, w)?])
}

/// A tensor as 32-bit integers less the zero point in input `i`: one for all, or one for each of the first dimension.
pub(super) fn centred(cx: &mut Context<'_>, x: ValueId, i: usize) -> Result<ValueId, Refusal> {
    let wide = cx.b.cast(x, DType::I32)?;
    let Some(zero) = cx.optional(i) else { return Ok(wide) };
    let mut zero = cx.b.cast(zero, DType::I32)?;
    if cx.shape(zero).iter().product::<usize>() > 1 {
        zero = cx.along(zero, 0, cx.shape(x).len())?;
    }
    Ok(cx.b.binary(Binary::Sub, wide, zero)?)
}
