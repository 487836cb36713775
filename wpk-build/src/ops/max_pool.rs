//! [MaxPool](https://onnx.ai/onnx/operators/onnx__MaxPool.html): largest element of each window.

use super::Refusal;
use super::spatial::spatial;
use super::{Context, Imported, OpDef};
use crate::graph::{Op, ValueId};
use wpk_plan::problem::{WindowDim, WindowKind};

pub(super) const OP: OpDef = OpDef { name: "MaxPool", import };

fn import(cx: &mut Context<'_>) -> Imported {
    if cx.attrs.int("storage_order").unwrap_or(0) != 0 && cx.wanted.len() > 1 {
        return cx.unsupported("storage_order", 1);
    }
    pool(cx, WindowKind::Max)
}

/// Pooling by the node's attributes; for maxima also their positions, where they are wanted.
pub(super) fn pool(cx: &mut Context<'_>, kind: WindowKind) -> Imported {
    let x = cx.input(0)?;
    pool_of(cx, kind, x)
}

/// Pooling of a tensor that need not be an input.
pub(super) fn pool_of(cx: &mut Context<'_>, kind: WindowKind, x: ValueId) -> Imported {
    let shape = cx.shape(x);
    let kernel = super::context::unsigned(&cx.attrs.ints("kernel_shape").unwrap_or_default(), "kernel_shape")?;
    if kernel.iter().any(|&k| k > 1 << 24) {
        return Err(format!("kernel_shape {kernel:?} is out of range").into());
    }
    let rank = shape
        .len()
        .checked_sub(2)
        .filter(|&r| r > 0 && kernel.len() == r)
        .ok_or_else(|| Refusal::from(format!("kernel_shape {kernel:?} does not fit {shape:?}")))?;
    let mut window = spatial(cx, rank)?;
    let spatial_out = window.resolve(&shape[2..], &kernel, cx.attrs.flag("ceil_mode", false))?;
    let one = WindowDim { size: 1, stride: 1, dilation: 1, pad: 0, pad_end: 0 };
    let mut dims = vec![one; 2];
    for d in 0..rank {
        let (Ok(pad), Ok(pad_end)) = (usize::try_from(window.begin[d]), usize::try_from(window.end[d])) else {
            return cx.unsupported("pads", format!("{:?}", window.begin));
        };
        dims.push(WindowDim { size: kernel[d], stride: window.strides[d], dilation: window.dilations[d], pad, pad_end });
    }
    let out = [&shape[..2], &spatial_out].concat();
    let count_pad = cx.attrs.flag("count_include_pad", false);
    let indices = kind == WindowKind::Max && cx.wanted.get(1) == Some(&true);
    Ok(cx.b.add(Op::Window { kind, dims, count_pad, out, indices }, &[x])?)
}
