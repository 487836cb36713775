//! [TensorScatter](https://onnx.ai/onnx/operators/onnx__TensorScatter.html): a cache with an update written into it, at a place of its own for each
//! sequence.

use super::{Context, Imported, OpDef};
use crate::graph::Op;
use wpk_plan::problem::ScatterReduce;
use wpk_plan::{Binary, DType, ScalarFn};

pub(super) const OP: OpDef = OpDef { name: "TensorScatter", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (cache, update) = (cx.input(0)?, cx.input(1)?);
    let (shape, extents) = (cx.shape(cache), cx.shape(update));
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-2), shape.len())?;
    if axis == 0 || extents.len() != shape.len() {
        return Err(format!("an update of {extents:?} does not fit a cache of {shape:?}").into());
    }
    let circular = match cx.attrs.text("mode").as_deref().unwrap_or("linear") {
        "linear" => false,
        "circular" => true,
        other => return cx.unsupported("mode", other),
    };
    let mut along = vec![1; shape.len()];
    along[axis] = extents[axis];
    let mut step = ScalarFn::default();
    step.outputs = vec![step.index(axis)];
    let mut at = cx.b.one(Op::Map { function: step, shape: along }, &[])?;
    if let Some(first) = cx.optional(2) {
        let mut batch = vec![1; shape.len()];
        batch[0] = extents[0];
        let first = cx.b.cast(first, DType::I64)?;
        let first = cx.b.reshape(first, &batch)?;
        at = cx.b.binary(Binary::Add, first, at)?;
    }
    if circular {
        let length = cx.b.scalar(shape[axis] as f64, DType::I64);
        at = cx.b.binary(Binary::Mod, at, length)?;
    }
    let index = cx.b.one(Op::Expand(extents), &[at])?;
    Ok(vec![cx.b.one(Op::ScatterElements { axis, reduce: ScatterReduce::None }, &[cache, index, update])?])
}
