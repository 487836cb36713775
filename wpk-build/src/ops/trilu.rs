//! [Trilu](https://onnx.ai/onnx/operators/onnx__Trilu.html): the upper or lower triangle of matrices, the rest zero.

use super::{Context, Imported, OpDef};
use crate::graph::Op;
use wpk_plan::{Binary, DType, ScalarFn};

pub(super) const OP: OpDef = OpDef { name: "Trilu", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let upper = cx.attrs.flag("upper", true);
    let k = cx.constant(1, "k")?.map_or(0, |l| l.to_ints().first().copied().unwrap_or(0));
    let [.., rows, columns] = shape[..] else { return Err("the input is no matrix".into()) };
    let k = k.clamp(-(rows as i64) - 1, columns as i64 + 1);
    let mut f = ScalarFn::default();
    let value = f.input(0, cx.dtype(x));
    let (r, c, k) = (f.index(shape.len() - 2), f.index(shape.len() - 1), f.integer(k, DType::I64));
    let edge = f.binary(Binary::Add, r, k);
    let inside = if upper { f.binary(Binary::Le, edge, c) } else { f.binary(Binary::Le, c, edge) };
    let zero = f.constant(0.0, f.dtype(value));
    let result = f.select(inside, value, zero);
    f.outputs = vec![result];
    Ok(vec![cx.b.one(Op::Map { function: f, shape }, &[x])?])
}
