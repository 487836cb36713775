//! [NonZero](https://onnx.ai/onnx/operators/onnx__NonZero.html): the coordinates of all elements but zeros, of a tensor that is known at build time.

use super::{Context, Imported, OpDef};
use crate::graph::Literal;
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "NonZero", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.constant(0, "the tensor whose elements are counted")?.ok_or("there is no input")?;
    let values = x.to_floats();
    let found: Vec<usize> = (0..values.len()).filter(|&i| values[i] != 0.0).collect();
    let mut rows = vec![];
    for d in 0..x.shape.len() {
        let inner: usize = x.shape[d + 1..].iter().product();
        rows.extend(found.iter().map(|i| (i / inner % x.shape[d]) as i64));
    }
    Ok(vec![cx.b.constant(Literal::ints(DType::I64, &[x.shape.len(), found.len()], &rows))])
}
