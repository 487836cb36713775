//! [Slice](https://onnx.ai/onnx/operators/onnx__Slice.html): ranges with steps; attributes before version 10, constants since.

use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "Slice", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let (starts, ends) = (cx.ints(1, "starts")?.ok_or("there are no starts")?, cx.ints(2, "ends")?.ok_or("there are no ends")?);
    let axes = cx.ints(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = cx.ints(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("starts, ends, axes and steps differ in number".into());
    }
    let axes = cx.axes(&axes, shape.len())?;
    let (mut start, mut step, mut count) = (vec![0; shape.len()], vec![1; shape.len()], shape.clone());
    for (i, &d) in axes.iter().enumerate() {
        let n = shape[d] as i64;
        let wrap = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
        let by = steps[i].clamp(-(1 << 40), 1 << 40);
        if by == 0 {
            return Err("a step is 0".into());
        }
        let (low, high) = if by > 0 { (0, n) } else { (-1, n - 1) };
        let (from, to) = (wrap(starts[i]).clamp(low.max(0), high.max(0)), wrap(ends[i]).clamp(low, high));
        let span = if by > 0 { to - from } else { from - to };
        (start[d], step[d], count[d]) = (from as usize, by, if n == 0 { 0 } else { ((span + by.abs() - 1) / by.abs()).max(0) as usize });
        if count[d] == 0 {
            start[d] = 0;
        }
    }
    Ok(vec![cx.b.one(Op::Slice { start, step, count }, &[x])?])
}
