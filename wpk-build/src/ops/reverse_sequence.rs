//! [ReverseSequence](https://onnx.ai/onnx/operators/onnx__ReverseSequence.html): the first elements along time in reverse order, as many as each sequence has.

use super::{Context, Imported, OpDef};
use crate::graph::Op;
use wpk_plan::{Binary, DType, ScalarFn};

pub(super) const OP: OpDef = OpDef { name: "ReverseSequence", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, lengths) = (cx.input(0)?, cx.input(1)?);
    let shape = cx.shape(x);
    let batch = cx.axis(cx.attrs.int("batch_axis").unwrap_or(1), shape.len())?;
    let time = cx.axis(cx.attrs.int("time_axis").unwrap_or(0), shape.len())?;
    if batch == time || cx.shape(lengths) != [shape[batch]] {
        return Err(format!("lengths of {:?} do not fit {shape:?}", cx.shape(lengths)).into());
    }
    let mut along = vec![1; shape.len()];
    along[batch] = shape[batch];
    let lengths = cx.b.reshape(lengths, &along)?;
    let mut f = ScalarFn::default();
    let length = f.input(0, cx.dtype(lengths));
    let (length, at, one) = (f.cast(length, DType::I64), f.index(time), f.integer(1, DType::I64));
    let last = f.binary(Binary::Sub, length, one);
    let mirrored = f.binary(Binary::Sub, last, at);
    let inside = f.binary(Binary::Lt, at, length);
    let from = f.select(inside, mirrored, at);
    f.outputs = vec![from];
    let index = cx.b.one(Op::Map { function: f, shape }, &[lengths])?;
    Ok(vec![cx.b.one(Op::GatherElements { axis: time }, &[x, index])?])
}
