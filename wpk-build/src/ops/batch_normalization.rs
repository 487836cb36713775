//! [BatchNormalization](https://onnx.ai/onnx/operators/onnx__BatchNormalization.html): per-channel affine map by running statistics; with `training_mode` by those of the batch.

use super::{Context, Imported, OpDef};
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "BatchNormalization", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let rank = cx.shape(x).len();
    if rank < 2 {
        return Err("the input has no channels".into());
    }
    let epsilon = cx.attrs.float("epsilon").unwrap_or(1e-5);
    let momentum = cx.attrs.float("momentum").unwrap_or(0.9);
    let spatial: Vec<usize> = (0..rank).filter(|&d| d != 1).collect();
    let dtype = cx.dtype(x);
    let mut p = vec![];
    for i in 1..5 {
        let v = cx.input(i)?;
        let v = cx.b.cast(v, dtype)?;
        p.push(cx.along(v, 1, rank)?);
    }
    let (scale, bias, mut mean, mut var) = (p[0], p[1], p[2], p[3]);
    let mut running = vec![];
    if cx.opset >= 14 && cx.attrs.flag("training_mode", false) {
        let now = cx.b.reduce(ReduceKind::Mean, x, &spatial)?;
        let apart = cx.b.binary(Binary::Sub, x, now)?;
        let square = cx.b.binary(Binary::Mul, apart, apart)?;
        let spread = cx.b.reduce(ReduceKind::Mean, square, &spatial)?;
        for (old, new) in [(mean, now), (var, spread)] {
            let old = cx.b.reshape(old, &cx.shape(new))?;
            let mixed = cx.b.map(&[old, new], |f, i| {
                let (keep, take) = (f.constant(momentum, f.dtype(i[0])), f.constant(1.0 - momentum, f.dtype(i[0])));
                let (a, b) = (f.binary(Binary::Mul, i[0], keep), f.binary(Binary::Mul, i[1], take));
                f.binary(Binary::Add, a, b)
            })?;
            let n = cx.shape(mixed).iter().product();
            running.push(cx.b.reshape(mixed, &[n])?);
        }
        (mean, var) = (now, spread);
    }
    let factor = cx.b.map(&[scale, var], |f, i| {
        let epsilon = f.constant(epsilon, f.dtype(i[0]));
        let sum = f.binary(Binary::Add, i[1], epsilon);
        let root = f.unary(Unary::Sqrt, sum);
        f.binary(Binary::Div, i[0], root)
    })?;
    let shift = cx.b.map(&[bias, mean, factor], |f, i| {
        let moved = f.binary(Binary::Mul, i[1], i[2]);
        f.binary(Binary::Sub, i[0], moved)
    })?;
    let y = cx.b.binary(Binary::Mul, x, factor)?;
    let y = cx.b.binary(Binary::Add, y, shift)?;
    Ok([y].into_iter().chain(running).collect())
}
