//! [Pow](https://onnx.ai/onnx/operators/onnx__Pow.html): power; the result has the type of the base. Before version 7 the exponent may broadcast by attribute.

use super::{Context, Imported, OpDef};
use wpk_plan::{Binary, DType};

pub(super) const OP: OpDef = OpDef { name: "Pow", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (x, y) = (cx.input(0)?, cx.input(1)?);
    let (t, u) = (cx.dtype(x), cx.dtype(y));
    let wide = if t == u || t.is_float() {
        t
    } else if u.is_float() {
        DType::F64
    } else {
        DType::I64
    };
    let (x, y) = (cx.b.cast(x, wide)?, cx.b.cast(y, wide)?);
    let power = cx.b.binary(Binary::Pow, x, y)?;
    Ok(vec![cx.b.cast(power, t)?])
}
