//! [Col2Im](https://onnx.ai/onnx/operators/onnx__Col2Im.html): blocks of an image back at their places, added where they overlap: the transposed
//! convolution whose filters have a single one.

use super::context::unsigned;
use super::spatial::spatial;
use super::{Context, Imported, OpDef};
use crate::graph::{Conv, Literal, Op};

pub(super) const OP: OpDef = OpDef { name: "Col2Im", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let extents = |cx: &Context<'_>, i: usize, what: &str| {
        let list = cx.constant(i, what)?.ok_or_else(|| format!("there is no {what}"))?.to_ints();
        unsigned(&list, what)
    };
    let (image, block) = (extents(cx, 1, "image_shape")?, extents(cx, 2, "block_shape")?);
    let [n, rows, columns] = cx.shape(x)[..] else { return Err(format!("{:?} are no blocks", cx.shape(x)).into()) };
    let taps = block.iter().try_fold(1usize, |n, &e| n.checked_mul(e)).filter(|&t| t > 0 && t <= 1 << 16 && rows % t == 0);
    let taps = taps.ok_or_else(|| format!("{rows} rows are no blocks of {block:?}"))?;
    let window = spatial(cx, block.len())?;
    if image.len() != block.len() {
        return Err(format!("blocks of {block:?} do not fit an image of {image:?}").into());
    }
    let mut places = vec![];
    for d in 0..block.len() {
        let reach = (block[d] as i64 - 1).saturating_mul(window.dilations[d] as i64).saturating_add(1);
        let room = (image[d] as i64).saturating_add(window.begin[d]).saturating_add(window.end[d]).saturating_sub(reach);
        places.push(usize::try_from(room.div_euclid(window.strides[d] as i64).saturating_add(1)).unwrap_or(0));
    }
    if places.iter().try_fold(1usize, |n, &p| n.checked_mul(p)) != Some(columns) {
        return Err(format!("an image of {image:?} has blocks at {places:?} places, not {columns}").into());
    }
    if rows.checked_mul(taps).is_none_or(|n| n > 1 << 24) {
        return Err(format!("{rows} rows of {taps} places are too many").into());
    }
    let channels = rows / taps;
    let single = |i: usize| if i / taps % taps == i % taps { 1.0 } else { 0.0 };
    let filters: Vec<f64> = (0..rows * taps).map(single).collect();
    let filters = cx.b.constant(Literal::floats(cx.dtype(x), &[&[rows, 1], block.as_slice()].concat(), &filters));
    let grid = cx.b.reshape(x, &[&[n, rows], places.as_slice()].concat())?;
    let conv = Conv {
        strides: window.strides,
        pads: window.begin,
        dilations: window.dilations,
        groups: channels,
        transposed: true,
        out: image,
        channels_last: false,
        epilogue: None,
    };
    Ok(vec![cx.b.one(Op::Conv(conv), &[grid, filters])?])
}
