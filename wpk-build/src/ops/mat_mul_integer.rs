//! [MatMulInteger](https://onnx.ai/onnx/operators/onnx__MatMulInteger.html): matrix product of 8-bit integers less their zero points, in 32 bits.

use super::Refusal;
use super::dequantize_linear::signed;
use super::mat_mul::matmul;
use super::{Context, Imported, OpDef};
use crate::graph::ValueId;
use wpk_plan::{Binary, DType};

pub(super) const OP: OpDef = OpDef { name: "MatMulInteger", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let a = centred(cx, a, 2, Some(2))?;
    let b = centred(cx, b, 3, None)?;
    Ok(vec![matmul(cx, a, b)?])
}

/// A tensor as 32-bit integers less the zero point in input `i`: one for all, one for each of the last dimension, or, where a rank is
/// given, one for each of the first of so many.
pub(super) fn centred(cx: &mut Context<'_>, x: ValueId, i: usize, rank: Option<usize>) -> Result<ValueId, Refusal> {
    let zero = cx.optional(i);
    let (x, zero) = signed(cx, x, zero)?;
    let wide = cx.b.cast(x, DType::I32)?;
    let Some(zero) = zero else { return Ok(wide) };
    let mut zero = cx.b.cast(zero, DType::I32)?;
    if let ([n], Some(rank)) = (&cx.shape(zero)[..], rank)
        && *n > 1
    {
        zero = cx.along(zero, 0, rank)?;
    }
    Ok(cx.b.binary(Binary::Sub, wide, zero)?)
}
