//! [LRN](https://onnx.ai/onnx/operators/onnx__LRN.html): local response normalization over neighbouring channels.

use super::{Context, Imported, OpDef};
use crate::graph::Op;
use wpk_plan::Binary;
use wpk_plan::problem::{WindowDim, WindowKind};

pub(super) const OP: OpDef = OpDef { name: "LRN", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    if shape.len() < 2 {
        return Err("the input has no channels".into());
    }
    let size =
        cx.attrs.int("size").and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=1 << 20).contains(n)).ok_or("there is no size")?;
    let (alpha, beta, bias) =
        (cx.attrs.float("alpha").unwrap_or(1e-4), cx.attrs.float("beta").unwrap_or(0.75), cx.attrs.float("bias").unwrap_or(1.0));
    let square = cx.b.binary(Binary::Mul, x, x)?;
    let one = WindowDim { size: 1, stride: 1, dilation: 1, pad: 0, pad_end: 0 };
    let mut dims = vec![one; shape.len()];
    dims[1] = WindowDim { size, pad: (size - 1) / 2, pad_end: size / 2, ..one };
    let sum = cx.b.one(Op::Window { kind: WindowKind::Sum, dims, count_pad: false, out: shape, indices: false }, &[square])?;
    let y = cx.b.map(&[x, sum], |f, i| {
        let t = f.dtype(i[0]);
        let (factor, bias, beta) = (f.constant(alpha / size as f64, t), f.constant(bias, t), f.constant(beta, t));
        let scaled = f.binary(Binary::Mul, i[1], factor);
        let base = f.binary(Binary::Add, scaled, bias);
        let power = f.binary(Binary::Pow, base, beta);
        f.binary(Binary::Div, i[0], power)
    })?;
    Ok(vec![y])
}
