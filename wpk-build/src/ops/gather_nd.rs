//! [GatherND](https://onnx.ai/onnx/operators/onnx__GatherND.html): blocks by index tuples.

use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "GatherND", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, index) = (cx.input(0)?, cx.input(1)?);
    let batch = cx.attrs.int("batch_dims").unwrap_or(0).max(0) as usize;
    Ok(vec![cx.b.one(Op::GatherNd { batch }, &[x, index])?])
}
