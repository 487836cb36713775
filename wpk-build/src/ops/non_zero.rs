//! [NonZero](https://onnx.ai/onnx/operators/onnx__NonZero.html): the coordinates of all elements but zeros, as many as there are.

use super::{Context, Imported, OpDef, counted};
use crate::graph::{Literal, Op, ValueId};
use wpk_plan::{Binary, DType, Unary};

pub(super) const OP: OpDef = OpDef { name: "NonZero", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    if let Some(x) = cx.b.fixed(x) {
        let values = x.to_floats();
        let found: Vec<usize> = (0..values.len()).filter(|&i| values[i] != 0.0).collect();
        let coordinate = |d: usize, i: usize| (i / shape[d + 1..].iter().product::<usize>() % shape[d]) as i64;
        let rows: Vec<i64> = (0..shape.len()).flat_map(|d| found.iter().map(move |&i| (d, i))).map(|(d, i)| coordinate(d, i)).collect();
        return Ok(vec![cx.b.constant(Literal::ints(DType::I64, &[shape.len(), found.len()], &rows))]);
    }
    let n: usize = shape.iter().product();
    if shape.is_empty() {
        return Err("a scalar is only supported as a constant".into());
    }
    counted::within(n)?;
    let flat = cx.b.reshape(x, &[n])?;
    let (flags, dtype) = (flat, cx.dtype(x));
    let flags = cx.b.map(&[flags], |f, i| {
        let zero = if dtype.is_float() { f.constant(0.0, dtype) } else { f.integer(0, dtype) };
        let equal = f.binary(Binary::Eq, i[0], zero);
        f.unary(Unary::Not, equal)
    })?;
    let (positions, count) = counted::positions(cx.b, flags)?;
    let mut rows: Vec<ValueId> = vec![];
    for (d, &extent) in shape.iter().enumerate() {
        let inner: usize = shape[d + 1..].iter().product();
        let row = cx.b.map(&[positions], |f, i| {
            let (inner, outer) = (f.integer(inner as i64, DType::I64), f.integer((inner * extent) as i64, DType::I64));
            let extent = f.integer(extent as i64, DType::I64);
            let (block, before) = (f.binary(Binary::Div, i[0], inner), f.binary(Binary::Div, i[0], outer));
            let before = f.binary(Binary::Mul, before, extent);
            f.binary(Binary::Sub, block, before)
        })?;
        rows.push(cx.b.reshape(row, &[1, n])?);
    }
    let all = cx.b.one(Op::Concat(0), &rows)?;
    Ok(vec![counted::of(cx.b, all, 1, count)])
}
