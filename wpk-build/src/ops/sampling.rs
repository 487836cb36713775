//! What operators share that read between elements: which elements lie beside a point along a dimension, and how much they count.

use super::{Context, Refusal};
use crate::graph::{Op, ValueId};
use wpk_plan::{Binary, DType, ScalarFn, Unary};

/// What lies outside.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// How elements around a point count.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// One element beside a point along one dimension.
pub(super) struct Tap {
    /// Its position, within the extent.
    pub at: ValueId,
    /// How much it counts; one where none is given.
    pub weight: Option<ValueId>,
}

/// The taps of places in `f32`, counted in elements along a dimension of some extent; reflection happens at the outer elements, or half an
/// element beyond them.
pub(super) fn taps(
    cx: &mut Context<'_>,
    place: ValueId,
    extent: usize,
    mode: Mode,
    padding: Padding,
    corners: bool,
) -> Result<Vec<Tap>, Refusal> {
    let n = extent as f64;
    let borders = if corners { (0.0, n - 1.0) } else { (-0.5, n - 0.5) };
    let place = cx.b.map(&[place], |f, i| {
        let place = if mode == Mode::Nearest { f.unary(Unary::Round, i[0]) } else { i[0] };
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

/// The combinations of one tap of each dimension: the position in row-major order, and the weights.
pub(super) fn combinations(cx: &mut Context<'_>, taps: &[Vec<Tap>], extents: &[usize]) -> Result<Vec<(ValueId, Vec<ValueId>)>, Refusal> {
    let each = taps[0].len();
    let mut all = vec![];
    for i in 0..each.pow(taps.len() as u32) {
        let chosen: Vec<&Tap> = taps.iter().enumerate().map(|(d, t)| &t[i / each.pow((taps.len() - 1 - d) as u32) % each]).collect();
        let mut index = chosen[0].at;
        for (tap, &extent) in chosen.iter().zip(extents).skip(1) {
            let extent = cx.b.scalar(extent as f64, DType::I64);
            let row = cx.b.binary(Binary::Mul, index, extent)?;
            index = cx.b.binary(Binary::Add, row, tap.at)?;
        }
        all.push((index, chosen.iter().filter_map(|t| t.weight).collect()));
    }
    Ok(all)
}

/// Elements of the last dimension by their positions, weighted and added: positions and weights are broadcast to the others.
pub(super) fn sampled(cx: &mut Context<'_>, x: ValueId, taps: &[Vec<Tap>], extents: &[usize]) -> Result<ValueId, Refusal> {
    let mut sum: Option<ValueId> = None;
    let lead = cx.shape(x);
    let axis = lead.len() - 1;
    for (index, weights) in combinations(cx, taps, extents)? {
        let count = cx.shape(index)[axis];
        let index = cx.b.one(Op::Expand([&lead[..axis], &[count]].concat()), &[index])?;
        let mut term = cx.b.one(Op::GatherElements { axis }, &[x, index])?;
        for weight in weights {
            let weight = cx.b.cast(weight, cx.dtype(term))?;
            term = cx.b.binary(Binary::Mul, term, weight)?;
        }
        sum = Some(match sum {
            Some(sum) => cx.b.binary(Binary::Add, sum, term)?,
            None => term,
        });
    }
    sum.ok_or_else(|| "there is nothing to sample".into())
}

pub(super) fn clamped(f: &mut ScalarFn, x: u16, n: f64) -> u16 {
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
