//! [Hardmax](https://onnx.ai/onnx/operators/onnx__Hardmax.html): 1 at the first of the largest elements along an axis, else 0; before version 13 over all dimensions from it on.

use super::{Context, Imported, OpDef};
use crate::graph::{Op, ValueId};
use wpk_plan::{Binary, DType, ScalarFn};

pub(super) const OP: OpDef = OpDef { name: "Hardmax", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    if cx.opset < 13 {
        let axis = cx.axis(cx.attrs.int("axis").unwrap_or(1), shape.len())?;
        let flat = cx.b.reshape(x, &[shape[..axis].iter().product(), shape[axis..].iter().product()])?;
        let y = hardmax(cx, flat, 1)?;
        return Ok(vec![cx.b.reshape(y, &shape)?]);
    }
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), shape.len())?;
    Ok(vec![hardmax(cx, x, axis)?])
}

fn hardmax(cx: &mut Context<'_>, x: ValueId, axis: usize) -> Result<ValueId, super::Refusal> {
    let largest = cx.b.one(Op::ArgReduce { axis, largest: true, last: false }, &[x])?;
    let mut f = ScalarFn::default();
    let (place, at) = (f.input(0, DType::I64), f.index(axis));
    let here = f.binary(Binary::Eq, place, at);
    let (one, zero) = (f.constant(1.0, cx.dtype(x)), f.constant(0.0, cx.dtype(x)));
    let result = f.select(here, one, zero);
    f.outputs = vec![result];
    Ok(cx.b.one(Op::Map { function: f, shape: cx.shape(x) }, &[largest])?)
}
