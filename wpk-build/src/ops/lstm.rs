//! [LSTM](https://onnx.ai/onnx/operators/onnx__LSTM.html): long short-term memory; gates in the order input, output, forget, cell.

use super::recurrent::{Cell, recurrent};
use super::{Context, Imported, OpDef, Refusal};
use crate::graph::ValueId;
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "LSTM", import };

fn import(cx: &mut Context<'_>) -> Imported {
    recurrent(cx, 4, &["Sigmoid", "Tanh", "Tanh"], |cx, cell, now, h, memory| {
        let own = cell.state_gates(cx, h)?;
        let all = cx.b.binary(Binary::Add, now, own)?;
        let coupled = cx.attrs.flag("input_forget", false);
        let input = gate(cx, cell, all, (0, 0), memory)?;
        let forget = if coupled { input } else { gate(cx, cell, all, (2, 2), memory)? };
        let fresh = cell.gate(cx, all, 3)?;
        let next = cx.b.map(&[input, forget, fresh, memory], |f, i| {
            let fresh = cell.activate(f, 1, i[2]);
            let one = f.constant(1.0, f.dtype(i[0]));
            let keep = if coupled { f.binary(Binary::Sub, one, i[0]) } else { i[1] };
            let (kept, fresh) = (f.binary(Binary::Mul, keep, i[3]), f.binary(Binary::Mul, i[0], fresh));
            f.binary(Binary::Add, kept, fresh)
        })?;
        let output = gate(cx, cell, all, (1, 1), next)?;
        let h = cx.b.map(&[output, next], |f, i| {
            let bent = cell.activate(f, 2, i[1]);
            f.binary(Binary::Mul, i[0], bent)
        })?;
        Ok((h, next))
    })
}

/// A gate's activation, with the memory seen through a peephole where there is one.
fn gate(cx: &mut Context<'_>, cell: &Cell, all: ValueId, (gate, peephole): (usize, usize), memory: ValueId) -> Result<ValueId, Refusal> {
    let sum = cell.gate(cx, all, gate)?;
    let Some(peepholes) = cell.peepholes else {
        return Ok(cx.b.map(&[sum], |f, i| cell.activate(f, 0, i[0]))?);
    };
    let weights = cell.gate(cx, peepholes, peephole)?;
    Ok(cx.b.map(&[sum, weights, memory], |f, i| {
        let seen = f.binary(Binary::Mul, i[1], i[2]);
        let sum = f.binary(Binary::Add, i[0], seen);
        cell.activate(f, 0, sum)
    })?)
}
