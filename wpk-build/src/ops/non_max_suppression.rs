//! [NonMaxSuppression](https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html): of overlapping boxes the best, as many as there are.
//!
//! All classes of all images take their best box at once, and lower the scores of what it overlaps, as often as boxes may be taken.

use super::{Context, Imported, OpDef, Refusal, counted};
use crate::graph::{Builder, Literal, Op, Outcome, ValueId};
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, DType};

pub(super) const OP: OpDef = OpDef { name: "NonMaxSuppression", import };

/// Boxes that may be taken of a class: each is some steps of the plan.
const MOST: usize = 1 << 10;

fn import(cx: &mut Context<'_>) -> Imported {
    let (boxes, scores) = (cx.input(0)?, cx.input(1)?);
    let ([images, n, 4], [same, classes, scored]) = (&cx.shape(boxes)[..], &cx.shape(scores)[..]) else {
        return Err(format!(
            "boxes {:?} and scores {:?} are not [images, boxes, 4] and [images, classes, boxes]",
            cx.shape(boxes),
            cx.shape(scores)
        )
        .into());
    };
    let (images, n, classes) = (*images, *n, *classes);
    if (*same, *scored) != (images, n) || n == 0 {
        return Err(format!("there are {n} boxes in {images} images, and scores of {scored} in {same}").into());
    }
    let number = |cx: &Context<'_>, i: usize, what: &str| -> Result<Option<f64>, Refusal> {
        Ok(cx
            .constant(i, what)?
            .and_then(|l| if l.dtype.is_float() { l.to_floats().first().copied() } else { l.to_ints().first().map(|&n| n as f64) }))
    };
    let taken = number(cx, 2, "the number of boxes of a class")?.unwrap_or(0.0).clamp(0.0, n as f64) as usize;
    counted::within(n)?;
    if taken == 0 {
        return Ok(vec![cx.b.constant(Literal::ints(DType::I64, &[0, 3], &[]))]);
    }
    if taken > MOST {
        let help = format!("give max_output_boxes_per_class as a constant of at most {MOST}");
        return Err(Refusal { message: format!("{taken} boxes may be taken of each class"), help: Some(help) });
    }
    let overlap = number(cx, 3, "the threshold of overlap")?.unwrap_or(0.0);
    let least = number(cx, 4, "the threshold of scores")?.unwrap_or(f64::NEG_INFINITY);
    let centered = cx.attrs.flag("center_point_box", false);
    let corners = corners(cx.b, boxes, centered)?;
    let lanes = Lanes { images, classes, n, overlap, least };
    Ok(vec![lanes.select(cx.b, &corners, scores, taken)?])
}

/// Low and high corners of boxes along both directions, each `[images, 1, boxes]`.
fn corners(b: &mut Builder, boxes: ValueId, centered: bool) -> Outcome<[ValueId; 4]> {
    let shape = b.shape(boxes);
    let part = |b: &mut Builder, i: usize| {
        let part = b.range(boxes, 2, i, 1)?;
        b.reshape(part, &[shape[0], 1, shape[1]])
    };
    let parts = [part(b, 0)?, part(b, 1)?, part(b, 2)?, part(b, 3)?];
    let mut out = vec![];
    for (i, direction) in [0, 1, 0, 1].into_iter().enumerate() {
        // Corners may be given in any order; centers with their extents.
        let (low, ends) = (i < 2, [parts[direction], parts[direction + 2]]);
        out.push(b.map(&ends, |f, v| {
            let dtype = f.dtype(v[0]);
            if !centered {
                return f.binary(if low { Binary::Min } else { Binary::Max }, v[0], v[1]);
            }
            let half = f.constant(0.5, dtype);
            let half = f.binary(Binary::Mul, v[1], half);
            f.binary(if low { Binary::Sub } else { Binary::Add }, v[0], half)
        })?);
    }
    Ok([out[0], out[1], out[2], out[3]])
}

/// Every class of every image.
struct Lanes {
    images: usize,
    classes: usize,
    n: usize,
    overlap: f64,
    least: f64,
}

impl Lanes {
    fn select(&self, b: &mut Builder, corners: &[ValueId; 4], scores: ValueId, taken: usize) -> Outcome<ValueId> {
        let (lanes, dtype) = ([self.images, self.classes, 1], b.dtype(scores));
        let numbers = b.constant(Literal::ints(DType::I64, &[1, 1, self.n], &(0..self.n as i64).collect::<Vec<_>>()));
        // What cannot be taken any more has a score of minus infinity.
        let mut left = b.map(&[scores], |f, i| {
            let (least, none) = (f.constant(self.least, dtype), f.constant(f64::NEG_INFINITY, dtype));
            let above = f.binary(Binary::Lt, least, i[0]);
            f.select(above, i[0], none)
        })?;
        let spread: Vec<ValueId> =
            corners.iter().map(|&c| b.one(Op::Expand(vec![self.images, self.classes, self.n]), &[c])).collect::<Outcome<_>>()?;
        let (mut places, mut flags) = (vec![], vec![]);
        for _ in 0..taken {
            let best = b.one(Op::ArgReduce { axis: 2, largest: true, last: false }, &[left])?;
            let score = b.reduce(ReduceKind::Max, left, &[2])?;
            let chosen: Vec<ValueId> = spread.iter().map(|&c| b.one(Op::GatherElements { axis: 2 }, &[c, best])).collect::<Outcome<_>>()?;
            let operands: Vec<ValueId> = [left, best, numbers].into_iter().chain(spread.iter().copied()).chain(chosen).collect();
            left = b.map(&operands, |f, i| self.remaining(f, i))?;
            flags.push(b.map(&[score], |f, i| {
                let none = f.constant(f64::NEG_INFINITY, dtype);
                f.binary(Binary::Lt, none, i[0])
            })?);
            places.push(best);
        }
        let all = self.images * self.classes * taken;
        let (places, flags) = (b.one(Op::Concat(2), &places)?, b.one(Op::Concat(2), &flags)?);
        let column = |b: &mut Builder, d: usize, extent: usize| {
            let mut shape = [1; 3];
            shape[d] = extent;
            let numbers = b.constant(Literal::ints(DType::I64, &shape, &(0..extent as i64).collect::<Vec<_>>()));
            let spread = b.one(Op::Expand(vec![lanes[0], lanes[1], taken]), &[numbers])?;
            b.reshape(spread, &[all, 1])
        };
        let rows = [column(b, 0, self.images)?, column(b, 1, self.classes)?, b.reshape(places, &[all, 1])?];
        let rows = b.one(Op::Concat(1), &rows)?;
        let flags = b.reshape(flags, &[all])?;
        let (positions, count) = counted::positions(b, flags)?;
        let positions = counted::of(b, positions, 0, count);
        b.one(Op::Gather { axis: 0 }, &[rows, positions])
    }

    /// The score that a box keeps beside the best one: none where it is that one, or where both overlap by more than the threshold.
    fn remaining(&self, f: &mut wpk_plan::ScalarFn, i: &[u16]) -> u16 {
        let (score, best, number) = (i[0], i[1], i[2]);
        let (own, other) = (&i[3..7], &i[7..11]);
        let dtype = f.dtype(own[0]);
        let zero = f.constant(0.0, dtype);
        let area = |f: &mut wpk_plan::ScalarFn, of: [u16; 4]| {
            let sides = [0, 1].map(|d| {
                let side = f.binary(Binary::Sub, of[d + 2], of[d]);
                f.binary(Binary::Max, side, zero)
            });
            f.binary(Binary::Mul, sides[0], sides[1])
        };
        let shared = [0, 1, 2, 3].map(|d| f.binary(if d < 2 { Binary::Max } else { Binary::Min }, own[d], other[d]));
        let shared = area(f, shared);
        let (a, c) = (area(f, [own[0], own[1], own[2], own[3]]), area(f, [other[0], other[1], other[2], other[3]]));
        let both = f.binary(Binary::Add, a, c);
        let union = f.binary(Binary::Sub, both, shared);
        // shared / union > threshold, without a division by nothing.
        let threshold = f.constant(self.overlap, dtype);
        let allowed = f.binary(Binary::Mul, union, threshold);
        let (more, some) = (f.binary(Binary::Lt, allowed, shared), f.binary(Binary::Lt, zero, union));
        let overlaps = f.binary(Binary::And, more, some);
        let same = f.binary(Binary::Eq, best, number);
        let gone = f.binary(Binary::Or, overlaps, same);
        let none = f.constant(f64::NEG_INFINITY, f.dtype(score));
        f.select(gone, none, score)
    }
}
