//! [STFT](https://onnx.ai/onnx/operators/onnx__STFT.html): Fourier transforms of pieces of a signal.

use super::fourier::Transform;
use super::{Context, Imported, OpDef};
use crate::graph::{Literal, Op};
use wpk_plan::{Binary, DType};

pub(super) const OP: OpDef = OpDef { name: "STFT", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let [_, samples, _] = shape[..] else { return Err(format!("{shape:?} is no batch of signals").into()) };
    let number = |cx: &Context<'_>, i: usize, what: &str| -> Result<Option<usize>, super::Refusal> {
        Ok(cx.constant(i, what)?.and_then(|l| l.to_ints().first().and_then(|&n| usize::try_from(n).ok())))
    };
    let step = number(cx, 1, "frame_step")?.filter(|&n| n > 0).ok_or("there is no usable frame_step")?;
    let window = cx.optional(2);
    let length = match (number(cx, 3, "frame_length")?, window) {
        (Some(n), _) => n,
        (None, Some(w)) => cx.shape(w).iter().product(),
        (None, None) => samples,
    };
    if length == 0 || length > samples || window.is_some_and(|w| cx.shape(w) != [length]) {
        return Err(format!("frames of {length} samples do not fit {samples} samples or the window").into());
    }
    let frames = 1 + (samples - length) / step;
    if frames.checked_mul(length).is_none_or(|n| n > 1 << 24) {
        return Err(format!("{frames} frames of {length} samples are too many").into());
    }
    let places: Vec<i64> = (0..frames * length).map(|i| (i / length * step + i % length) as i64).collect();
    let index = cx.b.constant(Literal::ints(DType::I64, &[frames, length], &places));
    let mut pieces = cx.b.one(Op::Gather { axis: 1 }, &[x, index])?;
    if let Some(window) = window {
        let window = cx.b.reshape(window, &[length, 1])?;
        pieces = cx.b.binary(Binary::Mul, pieces, window)?;
    }
    let one_sided = cx.attrs.flag("onesided", true);
    Ok(vec![Transform { length, inverse: false, one_sided }.along(cx, pieces, 2)?])
}
