//! [Slice](https://onnx.ai/onnx/operators/onnx__Slice.html): ranges with steps; attributes before version 10, constants since.

use super::{Context, Imported, OpDef, Refusal};
use crate::graph::moved::{Range, sliced};
use crate::graph::{Builder, Linear};

pub(super) const OP: OpDef = OpDef { name: "Slice", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let rank = cx.shape(x).len();
    let list = |i: usize, name: &str| -> Result<Vec<Linear>, Refusal> {
        let listed = || cx.attrs.ints(name).map(|list| list.into_iter().map(Linear::constant).collect());
        Ok(cx.sizes(i, name)?.or_else(listed).ok_or_else(|| format!("there are no {name}"))?)
    };
    let (starts, ends) = (list(1, "starts")?, list(2, "ends")?);
    let axes = cx.ints(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = cx.ints(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("starts, ends, axes and steps differ in number".into());
    }
    let mut ranges: Vec<Option<Range>> = vec![None; rank];
    for (i, d) in cx.axes(&axes, rank)?.into_iter().enumerate() {
        if steps[i] == 0 {
            return Err("a step is 0".into());
        }
        let all = cx.b.extent(x, d)?;
        let step = steps[i].clamp(-(1 << 40), 1 << 40);
        let range = range(cx.b, &starts[i], &ends[i], step, &all);
        let range = range.ok_or_else(|| {
            format!("dimension {d} has as many elements as are known at run time only, and a range of it depends on how many")
        })?;
        ranges[d] = Some(range).filter(|r| r.step != 1 || r.start != Linear::default() || r.count != all);
    }
    Ok(vec![sliced(cx.b, x, &ranges)?])
}

/// What is taken of `all` elements, where that follows from counts.
fn range(b: &Builder, start: &Linear, end: &Linear, step: i64, all: &Linear) -> Option<Range> {
    const FAR: i64 = 1 << 60;
    let from_start = |n: &Linear| match b.span(n) {
        (0.., _) => Some(n.clone()),
        (_, ..=-1) => all.add(n, 1),
        _ => None,
    };
    let one = Linear::constant(1);
    let (low, high) = if step > 0 { (Linear::default(), all.clone()) } else { (Linear::constant(-1), all.add(&one, -1)?) };
    let clamped = |n: &Linear, low: &Linear| -> Option<Linear> {
        match n.known() {
            // What lies far beyond any extent is no difference from one.
            Some(FAR..) => Some(high.clone()),
            Some(n) if n <= -FAR => Some(low.clone()),
            _ => b.larger(&b.smaller(&from_start(n)?, &high)?, low),
        }
    };
    let (from, to) = (clamped(start, &b.larger(&low, &Linear::default())?)?, clamped(end, &low)?);
    let span = if step > 0 { to.add(&from, -1)? } else { from.add(&to, -1)? };
    let count = match span.known() {
        Some(n) => Linear::constant(((n + step.abs() - 1) / step.abs()).max(0)),
        None => b.larger(&span, &Linear::default())?.divided(step.abs())?,
    };
    let start = if count == Linear::default() { Linear::default() } else { from };
    Some(Range { start, step, count })
}
