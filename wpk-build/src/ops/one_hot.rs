//! [OneHot](https://onnx.ai/onnx/operators/onnx__OneHot.html): a new dimension with one value at an index and another elsewhere.

use super::{Context, Imported, OpDef};
use crate::graph::Op;
use wpk_plan::{Binary, DType, ScalarFn};

pub(super) const OP: OpDef = OpDef { name: "OneHot", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (index, values) = (cx.input(0)?, cx.input(2)?);
    let depth = cx
        .constant(1, "depth")?
        .and_then(|l| if l.dtype.is_float() { l.to_floats().first().map(|&x| x as i64) } else { l.to_ints().first().copied() });
    let depth = depth.and_then(|d| usize::try_from(d).ok()).ok_or("depth is not a positive number")?;
    let mut shape = cx.shape(index);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), shape.len() + 1)?;
    shape.insert(axis, 1);
    if cx.shape(values) != [2] {
        return Err("values are not two numbers".into());
    }
    let mut inputs = vec![cx.b.reshape(index, &shape)?];
    for i in 0..2 {
        let value = cx.b.range(values, 0, i, 1)?;
        inputs.push(cx.b.reshape(value, &[])?);
    }
    shape[axis] = depth;
    let mut f = ScalarFn::default();
    let given = f.input(0, cx.dtype(index));
    let (given, at) = (f.cast(given, DType::I64), f.index(axis));
    let (off, on) = (f.input(1, cx.dtype(values)), f.input(2, cx.dtype(values)));
    // Negative indices count from the end.
    let (zero, depth) = (f.integer(0, DType::I64), f.integer(depth as i64, DType::I64));
    let (negative, from_end) = (f.binary(Binary::Lt, given, zero), f.binary(Binary::Add, given, depth));
    let place = f.select(negative, from_end, given);
    let here = f.binary(Binary::Eq, place, at);
    let result = f.select(here, on, off);
    f.outputs = vec![result];
    Ok(vec![cx.b.one(Op::Map { function: f, shape }, &inputs)?])
}
