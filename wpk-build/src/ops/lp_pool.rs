//! [LpPool](https://onnx.ai/onnx/operators/onnx__LpPool.html): p-norm of each window.

use super::Refusal;
use super::max_pool::pool_of;
use super::{Context, Imported, OpDef};
use crate::graph::ValueId;
use wpk_plan::problem::WindowKind;
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "LpPool", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let p = cx.attrs.int("p").unwrap_or(2) as f64;
    let x = cx.input(0)?;
    let powers = norm_power(cx, x, p)?;
    let sums = pool_of(cx, WindowKind::Sum, powers)?[0];
    Ok(vec![norm_root(cx, sums, p)?])
}

/// `|x|^p`
pub(super) fn norm_power(cx: &mut Context<'_>, x: ValueId, p: f64) -> Result<ValueId, Refusal> {
    let y = cx.b.map(&[x], |f, i| {
        let (size, p) = (f.unary(Unary::Abs, i[0]), f.constant(p, f.dtype(i[0])));
        f.binary(Binary::Pow, size, p)
    })?;
    Ok(y)
}

/// `x^(1/p)`
pub(super) fn norm_root(cx: &mut Context<'_>, x: ValueId, p: f64) -> Result<ValueId, Refusal> {
    let y = cx.b.map(&[x], |f, i| {
        let p = f.constant(1.0 / p, f.dtype(i[0]));
        f.binary(Binary::Pow, i[0], p)
    })?;
    Ok(y)
}
