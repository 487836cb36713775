//! [Unique](https://onnx.ai/onnx/operators/onnx__Unique.html): distinct elements, sorted or by their first appearance, where each first
//! appears, which of them every element is, and how often they do; as many as there are. Slices along an axis only of constants.

use super::{Context, Imported, OpDef, Refusal, counted};
use crate::graph::{Builder, Literal, Op, Outcome, ValueId};
use std::cmp::Ordering;
use wpk_plan::{Binary, DType, Unary};

pub(super) const OP: OpDef = OpDef { name: "Unique", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let (shape, sorted) = (cx.shape(x), cx.attrs.flag("sorted", true));
    let axis = cx.attrs.int("axis").map(|a| cx.axis(a, shape.len())).transpose()?;
    if let Some(literal) = cx.b.fixed(x).cloned() {
        return constant(cx, x, &literal, axis, sorted);
    }
    let n: usize = shape.iter().product();
    if axis.is_some() && shape.len() > 1 {
        cx.constant(0, "a tensor whose slices along an axis are compared")?;
    }
    counted::within(n)?;
    let flat = cx.b.reshape(x, &[n])?;
    Ok(distinct(cx.b, flat, n, sorted)?)
}

fn distinct(b: &mut Builder, x: ValueId, n: usize, sorted: bool) -> Outcome<Vec<ValueId>> {
    let numbers = |b: &mut Builder| b.constant(Literal::ints(DType::I64, &[n], &(0..n as i64).collect::<Vec<_>>()));
    let sort = |b: &mut Builder, v: ValueId| b.add(Op::TopK { axis: 0, k: n, largest: false }, &[v]);
    let gather = |b: &mut Builder, v: ValueId, i: ValueId| b.one(Op::Gather { axis: 0 }, &[v, i]);
    let all = numbers(b);
    let [values, places] = sort(b, x)?[..] else { return Err("sorting has two results".to_owned()) };
    // An element begins a group where it differs from the one before.
    let before = b.map(&[all], |f, i| {
        let (one, zero) = (f.integer(1, DType::I64), f.integer(0, DType::I64));
        let at = f.binary(Binary::Sub, i[0], one);
        f.binary(Binary::Max, at, zero)
    })?;
    let previous = gather(b, values, before)?;
    let begins = b.map(&[values, previous, all], |f, i| {
        let zero = f.integer(0, DType::I64);
        let (equal, first) = (f.binary(Binary::Eq, i[0], i[1]), f.binary(Binary::Eq, i[2], zero));
        let differs = f.unary(Unary::Not, equal);
        f.binary(Binary::Or, differs, first)
    })?;
    let (heads, count) = counted::positions(b, begins)?;
    let (found, first) = (gather(b, values, heads)?, gather(b, places, heads)?);
    // The group of every element of the sorted order, and from there of the given one.
    let ones = b.cast(begins, DType::I64)?;
    let groups = b.one(Op::Scan { axis: 0, product: false, exclusive: false, reverse: false }, &[ones])?;
    let back = sort(b, places)?[1];
    let inverse = gather(b, groups, back)?;
    let inverse = b.map(&[inverse], |f, i| {
        let one = f.integer(1, DType::I64);
        f.binary(Binary::Sub, i[0], one)
    })?;
    // A group ends where the next one begins, the last at the end.
    let after = b.map(&[all], |f, i| {
        let (one, last) = (f.integer(1, DType::I64), f.integer(n as i64 - 1, DType::I64));
        let at = f.binary(Binary::Add, i[0], one);
        f.binary(Binary::Min, at, last)
    })?;
    let next = gather(b, heads, after)?;
    let counts = b.map(&[heads, next, all, count], |f, i| {
        let (one, end) = (f.integer(1, DType::I64), f.integer(n as i64, DType::I64));
        let following = f.binary(Binary::Add, i[2], one);
        let more = f.binary(Binary::Lt, following, i[3]);
        let until = f.select(more, i[1], end);
        f.binary(Binary::Sub, until, i[0])
    })?;
    let mut results = [found, first, counts];
    let mut inverse = inverse;
    if !sorted {
        // By first appearance; what does not count is sorted behind.
        let keys = b.map(&[first, all, count], |f, i| {
            let (end, counts) = (f.integer(n as i64, DType::I64), f.binary(Binary::Lt, i[1], i[2]));
            f.select(counts, i[0], end)
        })?;
        let order = sort(b, keys)?[1];
        for result in &mut results {
            *result = gather(b, *result, order)?;
        }
        let back = sort(b, order)?[1];
        inverse = gather(b, back, inverse)?;
    }
    let [found, first, counts] = results.map(|v| counted::of(b, v, 0, count));
    Ok(vec![found, first, inverse, counts])
}

/// Of a constant, whose slices may be compared too.
fn constant(cx: &mut Context<'_>, x: ValueId, literal: &Literal, axis: Option<usize>, sorted: bool) -> Result<Vec<ValueId>, Refusal> {
    if literal.dtype == DType::Text {
        return Err("text is not sorted".into());
    }
    let shape = &literal.shape;
    let (outer, n, inner) = match axis {
        Some(a) => (shape[..a].iter().product(), shape[a], shape[a + 1..].iter().product::<usize>()),
        None => (1, literal.len(), 1),
    };
    let (floats, ints) = (literal.to_floats(), if literal.dtype.is_float() { vec![] } else { literal.to_ints() });
    let compare = |i: usize, j: usize| {
        let cells = (0..outer).flat_map(|o| (0..inner).map(move |k| (o * n, k)));
        let order = cells.map(|(o, k)| {
            let (p, q) = ((o + i) * inner + k, (o + j) * inner + k);
            if ints.is_empty() { floats[p].total_cmp(&floats[q]) } else { ints[p].cmp(&ints[q]) }
        });
        order.fold(Ordering::Equal, Ordering::then)
    };
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| compare(i, j));
    // Groups of equal slices, each with the first of them in front.
    let mut groups: Vec<Vec<usize>> = vec![];
    for i in order {
        match groups.last_mut().filter(|g| compare(g[0], i) == Ordering::Equal) {
            Some(group) => group.push(i),
            None => groups.push(vec![i]),
        }
    }
    if !sorted {
        groups.sort_by_key(|g| g[0]);
    }
    let mut inverse = vec![0; n];
    groups.iter().enumerate().for_each(|(g, all)| all.iter().for_each(|&i| inverse[i] = g as i64));
    let first: Vec<i64> = groups.iter().map(|g| g[0] as i64).collect();
    let counts: Vec<i64> = groups.iter().map(|g| g.len() as i64).collect();
    let mut vector = |values: &[i64]| cx.b.constant(Literal::ints(DType::I64, &[values.len()], values));
    let (first, inverse, counts) = (vector(&first), vector(&inverse), vector(&counts));
    let source = if axis.is_some() { x } else { cx.b.reshape(x, &[n])? };
    let found = cx.b.one(Op::Gather { axis: axis.unwrap_or(0) }, &[source, first])?;
    Ok(vec![found, first, inverse, counts])
}
