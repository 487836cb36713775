//! [Bernoulli](https://onnx.ai/onnx/operators/onnx__Bernoulli.html): one with the probability that the input says, else zero.

use super::random::{Spread, named, numbers};
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Bernoulli", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let (t, shape) = (cx.dtype(x), cx.shape(x));
    let to = named(cx, t)?;
    let draws = numbers(cx, Spread::Uniform, t, &shape)?;
    Ok(vec![cx.b.map(&[draws, x], |f, i| {
        let below = f.binary(Binary::Lt, i[0], i[1]);
        f.cast(below, to)
    })?])
}
