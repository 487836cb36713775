//! [LpNormalization](https://onnx.ai/onnx/operators/onnx__LpNormalization.html): elements over their norm along an axis; 0 where the norm is 0.

use super::{Context, Imported, OpDef};
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "LpNormalization", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), cx.shape(x).len())?;
    let norm = match cx.attrs.int("p").unwrap_or(2) {
        1 => cx.b.reduce(ReduceKind::SumAbs, x, &[axis])?,
        2 => {
            let sum = cx.b.reduce(ReduceKind::SumSquare, x, &[axis])?;
            cx.b.unary(Unary::Sqrt, sum)?
        }
        p => return cx.unsupported("p", p),
    };
    let y = cx.b.map(&[x, norm], |f, i| {
        let zero = f.constant(0.0, f.dtype(i[0]));
        let nothing = f.binary(Binary::Eq, i[1], zero);
        let quotient = f.binary(Binary::Div, i[0], i[1]);
        f.select(nothing, zero, quotient)
    })?;
    Ok(vec![y])
}
