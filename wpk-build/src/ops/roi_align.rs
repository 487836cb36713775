//! [RoiAlign](https://onnx.ai/onnx/operators/onnx__RoiAlign.html): regions of an image pooled to one size, read between its elements.

use super::sampling::{Mode, Padding, clamped, combinations, taps};
use super::{Context, Imported, OpDef, Refusal};
use crate::graph::{Op, ValueId};
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, DType, ScalarFn};

pub(super) const OP: OpDef = OpDef { name: "RoiAlign", import };

/// How regions are pooled.
struct Pooling {
    /// Points by side of a pooled element.
    points: usize,
    scale: f64,
    half_pixel: bool,
}

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, regions, batch) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (&[n, channels, height, width], &[count, 4]) = (&cx.shape(x)[..], &cx.shape(regions)[..]) else {
        return Err(format!("regions of {:?} do not fit images of {:?}", cx.shape(regions), cx.shape(x)).into());
    };
    let size = |cx: &Context<'_>, name: &str, least: i64| {
        let value = cx.attrs.int(name).unwrap_or(least.max(0));
        usize::try_from(value).ok().filter(|v| (1..=1 << 10).contains(v))
    };
    let (Some(rows), Some(columns)) = (size(cx, "output_height", 1), size(cx, "output_width", 1)) else {
        return Err("there is no usable output size".into());
    };
    let Some(points) = size(cx, "sampling_ratio", 0) else {
        return Err(Refusal {
            message: "sampling_ratio=0 reads as many points as regions are large".to_owned(),
            help: Some("export with a fixed sampling_ratio".to_owned()),
        });
    };
    let half_pixel = match cx.attrs.text("coordinate_transformation_mode").as_deref() {
        None => cx.opset >= 16,
        Some("half_pixel") => true,
        Some("output_half_pixel") => false,
        Some(other) => return cx.unsupported("coordinate_transformation_mode", other),
    };
    let largest = match cx.attrs.text("mode").as_deref().unwrap_or("avg") {
        "avg" => false,
        "max" => true,
        other => return cx.unsupported("mode", other),
    };
    let pooling = Pooling { points, scale: cx.attrs.float("spatial_scale").unwrap_or(1.0), half_pixel };
    let mut around = vec![];
    let mut valid = vec![];
    for (d, extent, pooled) in [(1, height, rows), (0, width, columns)] {
        let place = places(cx, regions, d, pooled, &pooling)?;
        let shape = if d == 1 { [count, pooled * points, 1] } else { [count, 1, pooled * points] };
        let place = cx.b.reshape(place, &shape)?;
        valid.push(cx.b.map(&[place], |f, i| {
            let t = DType::F32;
            let (low, high, one, zero) = (f.constant(-1.0, t), f.constant(extent as f64, t), f.constant(1.0, t), f.constant(0.0, t));
            let (above, below) = (f.binary(Binary::Le, low, i[0]), f.binary(Binary::Le, i[0], high));
            let some = f.select(above, one, zero);
            f.select(below, some, zero)
        })?);
        let place = cx.b.map(&[place], |f, i| clamped(f, i[0], extent as f64))?;
        around.push(taps(cx, place, extent, Mode::Linear, Padding::Border, true)?);
    }
    // Elements with channels last, so that a position names all channels of one.
    let last = cx.b.transpose(x, &[0, 2, 3, 1])?;
    let table = cx.b.reshape(last, &[n * height * width, channels])?;
    let batch = cx.b.cast(batch, DType::I64)?;
    let batch = cx.b.reshape(batch, &[count, 1, 1])?;
    let area = cx.b.scalar((height * width) as f64, DType::I64);
    let image = cx.b.binary(Binary::Mul, batch, area)?;
    let mut met: Option<ValueId> = None;
    for (index, weights) in combinations(cx, &around, &[height, width])? {
        let index = cx.b.binary(Binary::Add, index, image)?;
        let mut term = cx.b.one(Op::Gather { axis: 0 }, &[table, index])?;
        for weight in weights.into_iter().chain(valid.iter().copied()) {
            let mut shape = cx.shape(weight);
            shape.push(1);
            let weight = cx.b.reshape(weight, &shape)?;
            let weight = cx.b.cast(weight, cx.dtype(term))?;
            term = cx.b.binary(Binary::Mul, term, weight)?;
        }
        let meet = if largest { Binary::Max } else { Binary::Add };
        met = Some(match met {
            Some(met) => cx.b.binary(meet, met, term)?,
            None => term,
        });
    }
    let met = met.ok_or("there is nothing to pool")?;
    let split = cx.b.reshape(met, &[count, rows, points, columns, points, channels])?;
    let pooled = cx.b.reduce(if largest { ReduceKind::Max } else { ReduceKind::Mean }, split, &[2, 4])?;
    let pooled = cx.b.reshape(pooled, &[count, rows, columns, channels])?;
    Ok(vec![cx.b.transpose(pooled, &[0, 3, 1, 2])?])
}

/// Where the points of every region lie along a dimension, `[regions, pooled * points]`; column `d` of the regions holds where they
/// begin.
fn places(cx: &mut Context<'_>, regions: ValueId, d: usize, pooled: usize, p: &Pooling) -> Result<ValueId, Refusal> {
    let count = cx.shape(regions)[0];
    let ends = [d, d + 2].map(|column| cx.b.range(regions, 1, column, 1).and_then(|v| cx.b.cast(v, DType::F32)));
    let [begin, end] = ends;
    let mut f = ScalarFn::default();
    let t = DType::F32;
    let (scale, shift) = (f.constant(p.scale, t), f.constant(if p.half_pixel { 0.5 } else { 0.0 }, t));
    let edge = |f: &mut ScalarFn, i: usize| {
        let x = f.input(i, t);
        let x = f.binary(Binary::Mul, x, scale);
        f.binary(Binary::Sub, x, shift)
    };
    let (first, last) = (edge(&mut f, 0), edge(&mut f, 1));
    let mut length = f.binary(Binary::Sub, last, first);
    if !p.half_pixel {
        let one = f.constant(1.0, t);
        length = f.binary(Binary::Max, length, one);
    }
    let at = f.index(1);
    let at = f.cast(at, t);
    let (half, steps) = (f.constant(0.5, t), f.constant((pooled * p.points) as f64, t));
    let middle = f.binary(Binary::Add, at, half);
    let along = f.binary(Binary::Mul, middle, length);
    let along = f.binary(Binary::Div, along, steps);
    f.outputs = vec![f.binary(Binary::Add, first, along)];
    Ok(cx.b.one(Op::Map { function: f, shape: vec![count, pooled * p.points] }, &[begin?, end?])?)
}
