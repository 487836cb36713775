//! [PRelu](https://onnx.ai/onnx/operators/onnx__PRelu.html): `x` where positive, else `slope x`; the slope broadcasts, and before version 7 a vector runs along channels.

use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "PRelu", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, mut slope) = (cx.input(0)?, cx.input(1)?);
    let rank = cx.shape(x).len();
    if cx.opset < 7 && cx.shape(slope).len() == 1 && rank > 1 {
        slope = cx.along(slope, 1, rank)?;
    }
    let y = cx.b.map(&[x, slope], |f, i| {
        let zero = f.constant(0.0, f.dtype(i[0]));
        let (negative, scaled) = (f.binary(Binary::Lt, i[0], zero), f.binary(Binary::Mul, i[0], i[1]));
        f.select(negative, scaled, i[0])
    })?;
    Ok(vec![y])
}
