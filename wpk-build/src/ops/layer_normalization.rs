//! [LayerNormalization](https://onnx.ai/onnx/operators/onnx__LayerNormalization.html): normalization over the dimensions from an axis on.

use super::Refusal;
use super::{Context, Imported, OpDef};
use crate::graph::{Op, ValueId};
use wpk_plan::problem::{NormKind, ReduceKind};
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "LayerNormalization", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let axis = cx.axis(cx.attrs.int("axis").unwrap_or(-1), shape.len())?;
    let epsilon = cx.attrs.float("epsilon").unwrap_or(1e-5);
    let y = normalize(cx, NormKind::Layer, axis, epsilon, cx.optional(2))?;
    let mut outputs = vec![y];
    if cx.wanted.iter().skip(1).any(|w| *w) {
        let axes: Vec<usize> = (axis..shape.len()).collect();
        let mean = cx.b.reduce(ReduceKind::Mean, x, &axes)?;
        let apart = cx.b.binary(Binary::Sub, x, mean)?;
        let square = cx.b.binary(Binary::Mul, apart, apart)?;
        let variance = cx.b.reduce(ReduceKind::Mean, square, &axes)?;
        let inverse = cx.b.map(&[variance], |f, i| {
            let epsilon = f.constant(epsilon, f.dtype(i[0]));
            let sum = f.binary(Binary::Add, i[0], epsilon);
            let root = f.unary(Unary::Sqrt, sum);
            f.unary(Unary::Recip, root)
        })?;
        outputs.extend([mean, inverse]);
    }
    Ok(outputs)
}

/// Input 0 normalized over the dimensions from `axis` on, by the scale in input 1 and a bias.
pub(super) fn normalize(
    cx: &mut Context<'_>,
    kind: NormKind,
    axis: usize,
    epsilon: f64,
    bias: Option<ValueId>,
) -> Result<ValueId, Refusal> {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let shape = cx.shape(x);
    let row: usize = shape[axis..].iter().product();
    let mut rows = shape[..axis].to_vec();
    rows.push(row);
    let flat = cx.b.reshape(x, &rows)?;
    let vector = |cx: &mut Context<'_>, v: ValueId| -> Result<Option<ValueId>, Refusal> {
        let own = cx.shape(v);
        let full = own.iter().product::<usize>() == row && own.len() <= shape.len() - axis;
        if full { Ok(Some(cx.b.reshape(v, &[row])?)) } else { Ok(None) }
    };
    let plain = Op::Normalize { kind, epsilon, residual: false, scale: false, bias: false };
    let scale_row = vector(cx, scale)?;
    let bias_row = bias.map(|b| vector(cx, b)).transpose()?;
    // A scale that varies along other dimensions, or broadcasts, follows as maps.
    let y = match (scale_row, bias_row) {
        (Some(s), None) => cx.b.one(Op::Normalize { kind, epsilon, residual: false, scale: true, bias: false }, &[flat, s])?,
        (Some(s), Some(Some(b))) => cx.b.one(Op::Normalize { kind, epsilon, residual: false, scale: true, bias: true }, &[flat, s, b])?,
        _ => {
            let y = cx.b.one(plain, &[flat])?;
            let y = cx.b.reshape(y, &shape)?;
            let y = cx.b.binary(Binary::Mul, y, scale)?;
            return match bias {
                Some(bias) => Ok(cx.b.binary(Binary::Add, y, bias)?),
                None => Ok(y),
            };
        }
    };
    Ok(cx.b.reshape(y, &shape)?)
}
