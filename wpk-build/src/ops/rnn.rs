//! [RNN](https://onnx.ai/onnx/operators/onnx__RNN.html): a state that is the activation of the input's and its own weighted sum.

use super::recurrent::recurrent;
use super::{Context, Imported, OpDef};
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "RNN", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let mut outputs = recurrent(cx, 1, &["Tanh"], |cx, cell, now, h, memory| {
        let own = cell.state_gates(cx, h)?;
        let next = cx.b.map(&[now, own], |f, i| {
            let sum = f.binary(Binary::Add, i[0], i[1]);
            cell.activate(f, 0, sum)
        })?;
        Ok((next, memory))
    })?;
    outputs.truncate(2);
    Ok(outputs)
}
