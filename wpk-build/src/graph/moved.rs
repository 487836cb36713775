//! Elements in places that are known only at run time, where dimensions are bounded: ranges that begin or end there, and what is joined behind them.

use super::bounds::{merged, mixed};
use super::{Bound, Builder, Linear, Op, Outcome, ValueId};
use wpk_plan::{Binary, DType, ScalarFn};

/// Positions along a dimension that all exist, from a start in steps.
#[derive(Debug, Clone)]
pub struct Range {
    /// The first.
    pub start: Linear,
    /// From one to the next.
    pub step: i64,
    /// How many there are.
    pub count: Linear,
}

/// A range of every dimension that is not taken as a whole.
pub fn sliced(b: &mut Builder, v: ValueId, ranges: &[Option<Range>]) -> Outcome<ValueId> {
    let shape = b.shape(v);
    let changed = || ranges.iter().enumerate().filter_map(|(d, r)| Some((d, r.as_ref()?)));
    let (cut, mut bounds): (Vec<Bound>, Vec<Bound>) = b.bounds_of(v).into_iter().partition(|x| ranges[x.axis].is_some());
    if let Some(x) = cut.iter().find(|x| x.period < shape[x.axis]) {
        return Err(mixed("a range of it", x));
    }
    let (mut start, mut step, mut count) = (vec![0; shape.len()], vec![1; shape.len()], shape.clone());
    let most: Vec<usize> = ranges.iter().map(|r| r.as_ref().map_or(0, |r| b.span(&r.count).1.max(0) as usize)).collect();
    for (d, r) in changed() {
        if let Some(from) = r.start.known() {
            (start[d], step[d], count[d]) = (from.max(0) as usize, r.step, most[d]);
        }
    }
    if cut.is_empty() && changed().all(|(_, r)| r.start.known().and(r.count.known()).is_some()) {
        return b.one(Op::Slice { start, step, count }, &[v]);
    }
    let v = b.actual(v)?;
    let mut out = b.plain(Op::Slice { start, step, count }, &[v])?[0];
    b.masks.extend(changed().any(|(_, r)| r.count.known().is_none()).then_some(out));
    for (d, r) in changed() {
        if r.start.known().is_none() {
            let counts: Vec<ValueId> = r.start.terms().map(|t| t.0).collect();
            let places = positions(b, &counts, most[d], shape[d], |f, index, i| {
                let (from, step) = (r.start.within(f, i), f.integer(r.step, DType::I64));
                let along = f.binary(Binary::Mul, index, step);
                f.binary(Binary::Add, from, along)
            })?;
            out = b.plain(Op::Gather { axis: d }, &[out, places])?[0];
        }
        if r.count.known().is_none() {
            bounds.push(Bound::first(d, r.count.clone(), most[d]));
        }
    }
    Ok(b.bound(out, &merged(bounds)?))
}

/// Inputs one after another along a dimension of which some are bounded: what follows one of them begins where it ends.
pub(super) fn joined(b: &mut Builder, axis: usize, inputs: &[ValueId]) -> Outcome<ValueId> {
    let (mut beside, mut parts) = (vec![], vec![]);
    let (mut at, mut end) = (0, Linear::default());
    for &v in inputs {
        let extent = b.shape(v)[axis];
        let own = b.bounds_of(v);
        if let Some(x) = own.iter().find(|x| x.axis == axis && x.period < extent) {
            return Err(mixed("a concatenation", x));
        }
        let bound = own.iter().find(|x| x.axis == axis);
        beside.extend(own.iter().filter(|x| x.axis != axis).cloned());
        let count = bound.map_or_else(|| Linear::constant(extent as i64), |x| x.end.clone());
        // Where the elements are in the result, and where they lie in the inputs one after another.
        parts.push((end.clone(), at));
        end = end.add(&count, 1).ok_or("extents are too large")?;
        at += extent;
    }
    let mut out = b.plain(Op::Concat(axis), inputs)?[0];
    b.masks.push(out);
    let parts: Vec<(Linear, usize)> = parts.into_iter().filter(|p| p.0 != Linear::constant(p.1 as i64)).collect();
    if !parts.is_empty() {
        let counts: Vec<ValueId> = parts.iter().flat_map(|p| p.0.terms()).map(|t| t.0).collect();
        let places = positions(b, &counts, at, at, |f, index, i| {
            let (mut place, mut from) = (index, 0);
            for (start, lies) in &parts {
                let start_at = start.within(f, &i[from..]);
                from += start.terms().count();
                let lies = f.integer(*lies as i64, DType::I64);
                let (behind, inside) = (f.binary(Binary::Sub, index, start_at), f.binary(Binary::Le, start_at, index));
                let moved = f.binary(Binary::Add, behind, lies);
                place = f.select(inside, moved, place);
            }
            place
        })?;
        out = b.plain(Op::Gather { axis }, &[out, places])?[0];
    }
    beside.push(Bound::first(axis, end, at));
    Ok(b.bound(out, &merged(beside)?))
}

/// As many positions as there can be at most, within an extent; `f` gets the number of one, and the counts.
fn positions(
    b: &mut Builder,
    counts: &[ValueId],
    most: usize,
    extent: usize,
    place: impl FnOnce(&mut ScalarFn, u16, &[u16]) -> u16,
) -> Outcome<ValueId> {
    let mut f = ScalarFn::default();
    let names: Vec<u16> = (0..counts.len()).map(|i| f.input(i, DType::I64)).collect();
    let index = f.index(0);
    let place = place(&mut f, index, &names);
    let (first, last) = (f.integer(0, DType::I64), f.integer(extent as i64 - 1, DType::I64));
    let place = f.binary(Binary::Min, place, last);
    let place = f.binary(Binary::Max, place, first);
    f.outputs.push(place);
    let places = b.plain(Op::Map { function: f, shape: vec![most] }, counts)?[0];
    b.masks.push(places);
    Ok(places)
}
