//! [GridSample](https://onnx.ai/onnx/operators/onnx__GridSample.html): elements of an image or volume at points between them; points count from
//! -1 to 1 along each dimension, the last dimension first.

use super::sampling::{Mode, Padding, sampled, taps};
use super::{Context, Imported, OpDef};
use wpk_plan::{Binary, DType};

pub(super) const OP: OpDef = OpDef { name: "GridSample", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, grid) = (cx.input(0)?, cx.input(1)?);
    let (shape, points) = (cx.shape(x), cx.shape(grid));
    let rank = shape.len().saturating_sub(2);
    if !(1..=3).contains(&rank) || points.len() != rank + 2 || points[0] != shape[0] || points[rank + 1] != rank || shape.contains(&0) {
        return Err(format!("points of {points:?} do not fit {shape:?}").into());
    }
    let mode = match cx.attrs.text("mode").as_deref().unwrap_or("linear") {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        "cubic" | "bicubic" => Mode::Cubic,
        other => return cx.unsupported("mode", other),
    };
    let padding = match cx.attrs.text("padding_mode").as_deref().unwrap_or("zeros") {
        "zeros" => Padding::Zeros,
        "border" => Padding::Border,
        "reflection" => Padding::Reflection,
        other => return cx.unsupported("padding_mode", other),
    };
    let corners = cx.attrs.flag("align_corners", false);
    let count: usize = points[1..=rank].iter().product();
    let mut around = vec![];
    for d in 0..rank {
        let coordinate = cx.b.range(grid, rank + 1, rank - 1 - d, 1)?;
        let coordinate = cx.b.reshape(coordinate, &[shape[0], 1, count])?;
        let coordinate = cx.b.cast(coordinate, DType::F32)?;
        let n = shape[2 + d] as f64;
        let place = cx.b.map(&[coordinate], |f, i| {
            let (scale, shift) = if corners { ((n - 1.0) / 2.0, (n - 1.0) / 2.0) } else { (n / 2.0, (n - 1.0) / 2.0) };
            let (scale, shift) = (f.constant(scale, DType::F32), f.constant(shift, DType::F32));
            let moved = f.binary(Binary::Mul, i[0], scale);
            f.binary(Binary::Add, moved, shift)
        })?;
        around.push(taps(cx, place, shape[2 + d], mode, padding, corners)?);
    }
    let flat = cx.b.reshape(x, &[shape[0], shape[1], shape[2..].iter().product()])?;
    let y = sampled(cx, flat, &around, &shape[2..])?;
    Ok(vec![cx.b.reshape(y, &[&shape[..2], &points[1..=rank]].concat())?])
}
