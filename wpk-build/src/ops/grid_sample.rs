//! [GridSample](https://onnx.ai/onnx/operators/onnx__GridSample.html): elements of an image or volume at points between them; points count from
//! -1 to 1 along each dimension, the last dimension first.

use super::{Context, Imported, OpDef, Refusal};
use crate::graph::{Op, ValueId};
use wpk_plan::{Binary, DType, ScalarFn, Unary};

pub(super) const OP: OpDef = OpDef { name: "GridSample", import };

/// What lies outside.
#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// How elements around a point count.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// One element beside a point along one dimension.
struct Tap {
    /// Its position, within the extent.
    at: ValueId,
    /// How much it counts; one where none is given.
    weight: Option<ValueId>,
}

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
    let mut taps: Vec<Vec<Tap>> = vec![];
    for d in 0..rank {
        let coordinate = cx.b.range(grid, rank + 1, rank - 1 - d, 1)?;
        let coordinate = cx.b.reshape(coordinate, &[shape[0], 1, count])?;
        taps.push(along(cx, coordinate, shape[2 + d], mode, padding, corners)?);
    }
    let flat = cx.b.reshape(x, &[shape[0], shape[1], shape[2..].iter().product()])?;
    let each = taps[0].len();
    let mut sum: Option<ValueId> = None;
    for i in 0..each.pow(rank as u32) {
        let chosen: Vec<&Tap> = (0..rank).map(|d| &taps[d][i / each.pow((rank - 1 - d) as u32) % each]).collect();
        let mut index = chosen[0].at;
        for d in 1..rank {
            let extent = cx.b.scalar(shape[2 + d] as f64, DType::I64);
            let row = cx.b.binary(Binary::Mul, index, extent)?;
            index = cx.b.binary(Binary::Add, row, chosen[d].at)?;
        }
        let index = cx.b.one(Op::Expand(vec![shape[0], shape[1], count]), &[index])?;
        let mut term = cx.b.one(Op::GatherElements { axis: 2 }, &[flat, index])?;
        for weight in chosen.iter().filter_map(|t| t.weight) {
            let weight = cx.b.cast(weight, cx.dtype(term))?;
            term = cx.b.binary(Binary::Mul, term, weight)?;
        }
        sum = Some(match sum {
            Some(sum) => cx.b.binary(Binary::Add, sum, term)?,
            None => term,
        });
    }
    let y = sum.ok_or("there is nothing to sample")?;
    Ok(vec![cx.b.reshape(y, &[&shape[..2], &points[1..=rank]].concat())?])
}

/// The taps of points along a dimension of some extent.
fn along(cx: &mut Context<'_>, points: ValueId, extent: usize, mode: Mode, padding: Padding, corners: bool) -> Result<Vec<Tap>, Refusal> {
    let n = extent as f64;
    let borders = if corners { (0.0, n - 1.0) } else { (-0.5, n - 0.5) };
    let points = cx.b.cast(points, DType::F32)?;
    let place = cx.b.map(&[points], |f, i| {
        let t = DType::F32;
        let (scale, shift) = if corners { ((n - 1.0) / 2.0, (n - 1.0) / 2.0) } else { (n / 2.0, (n - 1.0) / 2.0) };
        let (scale, shift) = (f.constant(scale, t), f.constant(shift, t));
        let moved = f.binary(Binary::Mul, i[0], scale);
        let mut place = f.binary(Binary::Add, moved, shift);
        if mode == Mode::Nearest {
            place = f.unary(Unary::Round, place);
        }
        match padding {
            Padding::Zeros => place,
            Padding::Border => clamped(f, place, n),
            Padding::Reflection => reflected(f, place, borders),
        }
    })?;
    let offsets: &[f64] = match mode {
        Mode::Nearest => &[0.0],
        Mode::Linear => &[0.0, 1.0],
        Mode::Cubic => &[-1.0, 0.0, 1.0, 2.0],
    };
    let mut taps = vec![];
    for &offset in offsets {
        let neighbour = |f: &mut ScalarFn, x: u16| {
            let (base, offset) = (f.unary(Unary::Floor, x), f.constant(offset, DType::F32));
            f.binary(Binary::Add, base, offset)
        };
        let at = cx.b.map(&[place], |f, i| {
            let at = neighbour(f, i[0]);
            let at = if padding == Padding::Reflection { reflected(f, at, borders) } else { at };
            let within = clamped(f, at, n);
            f.cast(within, DType::I64)
        })?;
        let weight = if mode == Mode::Nearest && padding != Padding::Zeros {
            None
        } else {
            Some(cx.b.map(&[place], |f, i| {
                let at = neighbour(f, i[0]);
                let one = f.constant(1.0, DType::F32);
                let apart = f.binary(Binary::Sub, i[0], at);
                let apart = f.unary(Unary::Abs, apart);
                let weight = match mode {
                    Mode::Nearest => one,
                    Mode::Linear => f.binary(Binary::Sub, one, apart),
                    Mode::Cubic => cubic(f, apart, (0.0..=1.0).contains(&offset)),
                };
                if padding == Padding::Zeros { inside(f, at, n, weight) } else { weight }
            })?)
        };
        taps.push(Tap { at, weight });
    }
    Ok(taps)
}

fn clamped(f: &mut ScalarFn, x: u16, n: f64) -> u16 {
    let (low, high) = (f.constant(0.0, DType::F32), f.constant(n - 1.0, DType::F32));
    let x = f.binary(Binary::Max, x, low);
    f.binary(Binary::Min, x, high)
}

/// A weight where a position is within the extent, else zero.
fn inside(f: &mut ScalarFn, at: u16, n: f64, weight: u16) -> u16 {
    let (zero, last) = (f.constant(0.0, DType::F32), f.constant(n - 1.0, DType::F32));
    let (low, high) = (f.binary(Binary::Le, zero, at), f.binary(Binary::Le, at, last));
    let some = f.select(low, weight, zero);
    f.select(high, some, zero)
}

/// Mirrored at the borders until it lies between them.
fn reflected(f: &mut ScalarFn, x: u16, (low, high): (f64, f64)) -> u16 {
    let range = high - low;
    let start = f.constant(low, DType::F32);
    if range <= 0.0 {
        return start;
    }
    let (range, period) = (f.constant(range, DType::F32), f.constant(2.0 * range, DType::F32));
    let from = f.binary(Binary::Sub, x, start);
    let within = f.binary(Binary::Mod, from, period);
    let back = f.binary(Binary::Sub, period, within);
    let forth = f.binary(Binary::Le, within, range);
    let y = f.select(forth, within, back);
    f.binary(Binary::Add, y, start)
}

/// The weight of an element so far apart by cubic convolution with -0.75 (R. Keys, 1981); `near` for at most 1.
fn cubic(f: &mut ScalarFn, apart: u16, near: bool) -> u16 {
    const A: f64 = -0.75;
    let terms = if near { [A + 2.0, -(A + 3.0), 0.0, 1.0] } else { [A, -5.0 * A, 8.0 * A, -4.0 * A] };
    let mut y = f.constant(terms[0], DType::F32);
    for term in &terms[1..] {
        let product = f.binary(Binary::Mul, y, apart);
        let term = f.constant(*term, DType::F32);
        y = f.binary(Binary::Add, product, term);
    }
    y
}
