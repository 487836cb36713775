//! [IsInf](https://onnx.ai/onnx/operators/onnx__IsInf.html): test for infinity, of either sign or one.

use super::pointwise;
use super::{Context, Imported, OpDef};
use wpk_plan::{Binary, DType, Unary};

pub(super) const OP: OpDef = OpDef { name: "IsInf", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (negative, positive) = (cx.attrs.flag("detect_negative", true), cx.attrs.flag("detect_positive", true));
    pointwise::apply(cx, |f, x| {
        let (up, down) = (f.unary(Unary::IsPosInf, x), f.unary(Unary::IsNegInf, x));
        let no = f.constant(0.0, DType::Bool);
        f.binary(Binary::Or, if positive { up } else { no }, if negative { down } else { no })
    })
}
