//! [MeanVarianceNormalization](https://onnx.ai/onnx/operators/onnx__MeanVarianceNormalization.html): `(x - mean) / (deviation + 1e-9)`.

use super::{Context, Imported, OpDef};
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "MeanVarianceNormalization", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let axes = cx.attrs.ints("axes").unwrap_or_else(|| vec![0, 2, 3]);
    let axes = cx.axes(&axes, cx.shape(x).len())?;
    let mean = cx.b.reduce(ReduceKind::Mean, x, &axes)?;
    let centred = cx.b.binary(Binary::Sub, x, mean)?;
    let squares = cx.b.binary(Binary::Mul, centred, centred)?;
    let variance = cx.b.reduce(ReduceKind::Mean, squares, &axes)?;
    let y = cx.b.map(&[centred, variance], |f, i| {
        let deviation = f.unary(Unary::Sqrt, i[1]);
        let least = f.constant(1e-9, f.dtype(deviation));
        let divisor = f.binary(Binary::Add, deviation, least);
        f.binary(Binary::Div, i[0], divisor)
    })?;
    Ok(vec![y])
}
