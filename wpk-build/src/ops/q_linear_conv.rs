//! [QLinearConv](https://onnx.ai/onnx/operators/onnx__QLinearConv.html): convolution of quantized tensors, quantized again.

use super::conv::convolve;
use super::mat_mul_integer::centred;
use super::q_linear_mat_mul::requantize;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "QLinearConv", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, w) = (cx.input(0)?, cx.input(3)?);
    let rank = cx.shape(x).len();
    let (x, w) = (centred(cx, x, 2, None)?, centred(cx, w, 5, Some(rank))?);
    let mut sums = convolve(cx, x, w)?;
    if let Some(bias) = cx.optional(8) {
        let bias = cx.along(bias, 1, rank)?;
        sums = cx.b.binary(Binary::Add, sums, bias)?;
    }
    let mut scale = cx.input(4)?;
    if cx.shape(scale).iter().product::<usize>() > 1 {
        scale = cx.along(scale, 1, rank)?;
    }
    Ok(vec![requantize(cx, sums, [cx.input(1)?, scale, cx.input(6)?], cx.input(7)?)?])
}
