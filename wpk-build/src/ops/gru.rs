//! [GRU](https://onnx.ai/onnx/operators/onnx__GRU.html): a gated recurrent unit; gates in the order update, reset, hidden.

use super::mat_mul::matmul;
use super::recurrent::recurrent;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "GRU", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let mut outputs = recurrent(cx, 3, &["Sigmoid", "Tanh"], |cx, cell, now, h, memory| {
        let own = cell.state_gates(cx, h)?;
        let gate = |cx: &mut Context<'_>, i| -> Result<_, super::Refusal> {
            let (from_input, from_state) = (cell.gate(cx, now, i)?, cell.gate(cx, own, i)?);
            Ok(cx.b.map(&[from_input, from_state], |f, i| {
                let sum = f.binary(Binary::Add, i[0], i[1]);
                cell.activate(f, 0, sum)
            })?)
        };
        let (update, reset) = (gate(cx, 0)?, gate(cx, 1)?);
        let from_input = cell.gate(cx, now, 2)?;
        let from_state = if cx.attrs.flag("linear_before_reset", false) {
            let from_state = cell.gate(cx, own, 2)?;
            cx.b.binary(Binary::Mul, reset, from_state)?
        } else {
            let kept = cx.b.binary(Binary::Mul, reset, h)?;
            let weights = cell.gate(cx, cell.recurrent, 2)?;
            let mut product = matmul(cx, kept, weights)?;
            if let Some(bias) = cell.bias {
                let bias = cell.gate(cx, bias, 2)?;
                product = cx.b.binary(Binary::Add, product, bias)?;
            }
            product
        };
        let next = cx.b.map(&[from_input, from_state, update, h], |f, i| {
            let sum = f.binary(Binary::Add, i[0], i[1]);
            let fresh = cell.activate(f, 1, sum);
            let one = f.constant(1.0, f.dtype(i[2]));
            let rest = f.binary(Binary::Sub, one, i[2]);
            let (fresh, kept) = (f.binary(Binary::Mul, rest, fresh), f.binary(Binary::Mul, i[2], i[3]));
            f.binary(Binary::Add, fresh, kept)
        })?;
        Ok((next, memory))
    })?;
    outputs.truncate(2);
    Ok(outputs)
}
