//! [QLinearMatMul](https://onnx.ai/onnx/operators/onnx__QLinearMatMul.html): matrix product of quantized factors, quantized again.

use super::mat_mul::matmul;
use super::mat_mul_integer::centred;
use super::{Context, Imported, OpDef, Refusal};
use crate::graph::ValueId;
use wpk_plan::{Binary, DType, Unary};

pub(super) const OP: OpDef = OpDef { name: "QLinearMatMul", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (a, b) = (cx.input(0)?, cx.input(3)?);
    let a = centred(cx, a, 2, Some(2))?;
    let b = centred(cx, b, 5, None)?;
    let sums = matmul(cx, a, b)?;
    let (mut scale_a, scale_b) = (cx.input(1)?, cx.input(4)?);
    if let [n] = cx.shape(scale_a)[..]
        && n > 1
    {
        scale_a = cx.along(scale_a, 0, 2)?;
    }
    Ok(vec![requantize(cx, sums, [scale_a, scale_b, cx.input(6)?], cx.input(7)?)?])
}

/// Sums of quantized products times `scales[0] * scales[1] / scales[2]`, around a zero point of the result's type.
pub(super) fn requantize(cx: &mut Context<'_>, sums: ValueId, scales: [ValueId; 3], zero: ValueId) -> Result<ValueId, Refusal> {
    let to = cx.dtype(zero);
    if !to.is_int() {
        return Err(format!("quantization to {to} is not supported").into());
    }
    let (low, high) = to.int_range();
    let [a, b, y] = scales;
    Ok(cx.b.map(&[sums, a, b, y, zero], |f, i| {
        let [x, a, b, y, zero] = [i[0], i[1], i[2], i[3], i[4]].map(|v| f.cast(v, DType::F32));
        let product = f.binary(Binary::Mul, a, b);
        let scale = f.binary(Binary::Div, product, y);
        let x = f.binary(Binary::Mul, x, scale);
        let x = f.unary(Unary::Round, x);
        let x = f.binary(Binary::Add, x, zero);
        let (low, high) = (f.constant(low as f64, DType::F32), f.constant(high as f64, DType::F32));
        let x = f.binary(Binary::Max, x, low);
        let x = f.binary(Binary::Min, x, high);
        f.cast(x, to)
    })?)
}
