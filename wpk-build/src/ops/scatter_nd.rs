//! [ScatterND](https://onnx.ai/onnx/operators/onnx__ScatterND.html): a copy of the data with blocks updated.

use super::scatter_elements::reduction;
use super::{Context, Imported, OpDef};
use crate::graph::Op;

pub(super) const OP: OpDef = OpDef { name: "ScatterND", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let inputs = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
    let reduce = reduction(cx)?;
    Ok(vec![cx.b.one(Op::ScatterNd { reduce }, &inputs)?])
}
