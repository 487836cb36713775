//! [GlobalLpPool](https://onnx.ai/onnx/operators/onnx__GlobalLpPool.html): p-norm over all spatial dimensions.

use super::lp_pool::{norm_power, norm_root};
use super::{Context, Imported, OpDef};
use wpk_plan::problem::ReduceKind;

pub(super) const OP: OpDef = OpDef { name: "GlobalLpPool", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let p = cx.attrs.int("p").unwrap_or(2) as f64;
    let x = cx.input(0)?;
    let axes: Vec<usize> = (2..cx.shape(x).len()).collect();
    let powers = norm_power(cx, x, p)?;
    let sum = cx.b.reduce(ReduceKind::Sum, powers, &axes)?;
    Ok(vec![norm_root(cx, sum, p)?])
}
