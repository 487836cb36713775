//! [DeformConv](https://onnx.ai/onnx/operators/onnx__DeformConv.html): convolution whose taps are moved by computed offsets, and weighted by a mask.

use super::conv::add_bias_of;
use super::mat_mul::matmul;
use super::sampling::{Mode, Padding, sampled, taps};
use super::spatial::spatial;
use super::{Context, Imported, OpDef};
use crate::graph::Literal;
use wpk_plan::{Binary, DType};

pub(super) const OP: OpDef = OpDef { name: "DeformConv", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, w, offset) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (&[n, channels, height, width], &[filters, own, kh, kw]) = (&cx.shape(x)[..], &cx.shape(w)[..]) else {
        return Err("only images are supported: inputs and filters of four dimensions".into());
    };
    let count = |cx: &Context<'_>, name: &str| cx.attrs.int(name).map_or(1, |g| usize::try_from(g).unwrap_or(0));
    let (groups, parts) = (count(cx, "group"), count(cx, "offset_group"));
    let mut window = spatial(cx, 2)?;
    let out = window.resolve(&[height, width], &[kh, kw], false)?;
    let (taps_of, points) = (kh * kw, out[0] * out[1]);
    let fits = groups > 0 && parts > 0 && own * groups == channels && filters % groups == 0 && channels % parts == 0;
    if !fits || cx.shape(offset) != [n, parts * taps_of * 2, out[0], out[1]] || taps_of * points > 1 << 24 {
        return Err(format!("offsets of {:?} do not fit {filters} filters of {kh} by {kw} at {out:?} places", cx.shape(offset)).into());
    }
    let offsets = cx.b.reshape(offset, &[n, parts, taps_of, 2, points])?;
    let mut around = vec![];
    for (d, extent) in [height, width].into_iter().enumerate() {
        let place = |i: usize| {
            let (tap, point) = (i / points, i % points);
            let (tap, point) = if d == 0 { (tap / kw, point / out[1]) } else { (tap % kw, point % out[1]) };
            (point * window.strides[d] + tap * window.dilations[d]) as f64 - window.begin[d] as f64
        };
        let regular: Vec<f64> = (0..taps_of * points).map(place).collect();
        let regular = cx.b.constant(Literal::floats(DType::F32, &[taps_of * points], &regular));
        let moved = cx.b.range(offsets, 3, d, 1)?;
        let moved = cx.b.reshape(moved, &[n, parts, 1, taps_of * points])?;
        let moved = cx.b.cast(moved, DType::F32)?;
        let place = cx.b.binary(Binary::Add, moved, regular)?;
        around.push(taps(cx, place, extent, Mode::Linear, Padding::Zeros, true)?);
    }
    let flat = cx.b.reshape(x, &[n, parts, channels / parts, height * width])?;
    let mut columns = sampled(cx, flat, &around, &[height, width])?;
    if let Some(mask) = cx.optional(4) {
        let mask = cx.b.reshape(mask, &[n, parts, 1, taps_of * points])?;
        columns = cx.b.binary(Binary::Mul, columns, mask)?;
    }
    let columns = cx.b.reshape(columns, &[n, groups, own * taps_of, points])?;
    let filters_of = cx.b.reshape(w, &[groups, filters / groups, own * taps_of])?;
    let y = matmul(cx, filters_of, columns)?;
    let y = cx.b.reshape(y, &[n, filters, out[0], out[1]])?;
    Ok(vec![add_bias_of(cx, y, 3, 2)?])
}
