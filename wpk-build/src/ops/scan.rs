//! [Scan](https://onnx.ai/onnx/operators/onnx__Scan.html): its body for every slice of its inputs, with states from one to the next.

use super::loop_::stacked;
use super::{Context, Imported, OpDef, Refusal};
use crate::graph::ValueId;

pub(super) const OP: OpDef = OpDef { name: "Scan", import };

/// Most slices.
const SLICES: usize = 4096;

fn import(cx: &mut Context<'_>) -> Imported {
    if cx.opset < 9 {
        return Err("batches of sequences (opset 8) are not supported".into());
    }
    let all = cx.all()?;
    let scanned = cx.attrs.int("num_scan_inputs").and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=all.len()).contains(n));
    let scanned = scanned.ok_or("there is no usable num_scan_inputs")?;
    let (states, inputs) = all.split_at(all.len() - scanned);
    let setting = |cx: &Context<'_>, name: &str, i: usize| cx.attrs.ints(name).and_then(|v| v.get(i).copied()).unwrap_or(0);
    let mut axes = vec![];
    for (i, &input) in inputs.iter().enumerate() {
        axes.push(cx.axis(setting(cx, "scan_input_axes", i), cx.shape(input).len())?);
    }
    let slices = cx.shape(inputs[0])[axes[0]];
    if inputs.iter().zip(&axes).any(|(&v, &axis)| cx.shape(v)[axis] != slices) || slices > SLICES || slices == 0 {
        return Err(format!("inputs of {slices} slices, and others of other numbers: 1 to {SLICES}, alike, can be unrolled").into());
    }
    let mut states = states.to_vec();
    let mut collected: Vec<Vec<ValueId>> = vec![];
    for t in 0..slices {
        let mut own = states.clone();
        for (i, (&input, &axis)) in inputs.iter().zip(&axes).enumerate() {
            let at = if setting(cx, "scan_input_directions", i) == 0 { t } else { slices - 1 - t };
            let slice = cx.b.range(input, axis, at, 1)?;
            let mut shape = cx.shape(slice);
            shape.remove(axis);
            own.push(cx.b.reshape(slice, &shape)?);
        }
        let mut results = cx.body("body", &own)?;
        if results.len() < states.len() {
            return Err(format!("its body gives {} results for {} states", results.len(), states.len()).into());
        }
        let found = results.split_off(states.len());
        collected.resize(found.len(), vec![]);
        collected.iter_mut().zip(found).for_each(|(all, v)| all.push(v));
        states = results;
    }
    for (i, mut all) in collected.into_iter().enumerate() {
        if setting(cx, "scan_output_directions", i) != 0 {
            all.reverse();
        }
        let rank = all.first().map_or(0, |&v| cx.shape(v).len()) + 1;
        let axis = cx.axis(setting(cx, "scan_output_axes", i), rank)?;
        let stack: Result<ValueId, Refusal> = stacked(cx, &all, axis);
        states.push(stack?);
    }
    Ok(states)
}
