//! [EyeLike](https://onnx.ai/onnx/operators/onnx__EyeLike.html): ones on a diagonal of a matrix with the extents of the input.

use super::{Context, Imported, OpDef};
use crate::graph::Op;
use crate::onnx::dtype;
use wpk_plan::{Binary, DType, ScalarFn};

pub(super) const OP: OpDef = OpDef { name: "EyeLike", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = match cx.shape(x)[..] {
        [n] => vec![n, n],
        [rows, columns] => vec![rows, columns],
        ref other => return Err(format!("{other:?} is no matrix").into()),
    };
    let t = match cx.attrs.int("dtype") {
        Some(t) => dtype(t as i32).map_err(|t| format!("matrices of {t} are not supported"))?,
        None => cx.dtype(x),
    };
    let k = cx.attrs.int("k").unwrap_or(0).clamp(-(shape[0] as i64), shape[1] as i64);
    let mut f = ScalarFn::default();
    let (row, column, k) = (f.index(0), f.index(1), f.integer(k, DType::I64));
    let place = f.binary(Binary::Add, row, k);
    let here = f.binary(Binary::Eq, place, column);
    let result = f.cast(here, t);
    f.outputs = vec![result];
    Ok(vec![cx.b.one(Op::Map { function: f, shape }, &[])?])
}
