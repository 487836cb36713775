//! [MaxUnpool](https://onnx.ai/onnx/operators/onnx__MaxUnpool.html): maxima back where they were found, zeros elsewhere.

use super::context::unsigned;
use super::spatial::spatial;
use super::{Context, Imported, OpDef};
use crate::graph::Op;
use wpk_plan::problem::ScatterReduce;

pub(super) const OP: OpDef = OpDef { name: "MaxUnpool", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, index) = (cx.input(0)?, cx.input(1)?);
    let shape = cx.shape(x);
    let kernel = unsigned(&cx.attrs.ints("kernel_shape").ok_or("there is no kernel_shape")?, "kernel_shape")?;
    if shape.len() != kernel.len() + 2 || cx.shape(index) != shape {
        return Err(format!("positions of {:?} and a kernel of {kernel:?} do not fit {shape:?}", cx.shape(index)).into());
    }
    let window = spatial(cx, kernel.len())?;
    let extent = |d: usize| {
        let whole = (shape[2 + d] as i64 - 1).saturating_mul(window.strides[d] as i64).saturating_add(kernel[d] as i64);
        whole.saturating_sub(window.begin[d]).saturating_sub(window.end[d])
    };
    let inferred: Vec<i64> = (0..kernel.len()).map(extent).collect();
    let own = [&shape[..2], &unsigned(&inferred, "the result's extents")?].concat();
    // Positions count in the result that the attributes describe; a larger one has them in its corner.
    let wanted = match cx.constant(2, "output_shape")? {
        Some(l) => unsigned(&l.to_ints(), "output_shape")?,
        None => own.clone(),
    };
    let count = own.iter().try_fold(1usize, |n, &e| n.checked_mul(e)).filter(|n| *n <= 1 << 40).ok_or("the result is too large")?;
    if wanted.len() != own.len() || wanted.iter().zip(&own).any(|(w, o)| w < o) {
        return Err(format!("a result of {wanted:?} does not hold {own:?}").into());
    }
    let len: usize = shape.iter().product();
    let zero = cx.b.scalar(0.0, cx.dtype(x));
    let zeros = cx.b.one(Op::Expand(vec![count]), &[zero])?;
    let (values, index) = (cx.b.reshape(x, &[len])?, cx.b.reshape(index, &[len])?);
    let y = cx.b.one(Op::ScatterElements { axis: 0, reduce: ScatterReduce::None }, &[zeros, index, values])?;
    let y = cx.b.reshape(y, &own)?;
    let after = wanted.iter().zip(&own).map(|(w, o)| w - o).collect();
    Ok(vec![cx.b.one(Op::Pad { before: vec![0; own.len()], after, fill: 0 }, &[y])?])
}
