//! [ConvInteger](https://onnx.ai/onnx/operators/onnx__ConvInteger.html): convolution of 8-bit integers less their zero points, in 32 bits.

use super::conv::convolve;
use super::mat_mul_integer::centred;
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "ConvInteger", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let rank = cx.shape(w).len();
    let (x, w) = (centred(cx, x, 2, None)?, centred(cx, w, 3, Some(rank))?);
    Ok(vec![convolve(cx, x, w)?])
}
