//! [Gemm](https://onnx.ai/onnx/operators/onnx__Gemm.html): `alpha A B + beta C` with either factor transposed.

use super::Refusal;
use super::{Context, Imported, OpDef};
use crate::graph::{Op, ValueId};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "Gemm", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (alpha, beta) = (cx.attrs.float("alpha").unwrap_or(1.0), cx.attrs.float("beta").unwrap_or(1.0));
    let labels = |transposed: bool, l: [u8; 2]| if transposed { vec![l[1], l[0]] } else { l.to_vec() };
    let (la, lb) = (labels(cx.attrs.flag("transA", false), [0, 1]), labels(cx.attrs.flag("transB", false), [1, 2]));
    let product = cx.b.one(Op::Contract { a: la, b: lb, out: vec![0, 2], epilogue: None }, &[a, b])?;
    let scaled = scale(cx, product, alpha)?;
    let Some(c) = cx.optional(2) else { return Ok(vec![scaled]) };
    let mut c = scale(cx, c, beta)?;
    if cx.opset < 7 && cx.shape(c).len() == 1 && cx.shape(c)[0] != cx.shape(scaled)[1] {
        c = cx.along(c, 0, 2)?;
    }
    Ok(vec![cx.b.binary(Binary::Add, scaled, c)?])
}

fn scale(cx: &mut Context<'_>, x: ValueId, factor: f64) -> Result<ValueId, Refusal> {
    let y = cx.b.map(&[x], |f, i| {
        let c = f.constant(factor, f.dtype(i[0]));
        f.binary(Binary::Mul, i[0], c)
    })?;
    Ok(y)
}
