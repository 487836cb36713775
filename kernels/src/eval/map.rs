//! Pointwise functions and data movement.

use super::contraction::advance;
use super::scalar::{self, Value};
use super::{Data, Tensor};
use wpk_plan::problem::{Map, Move};

pub(super) fn value(t: &Tensor, i: usize) -> Value {
    match &t.data {
        Data::Float(x) => Value::F(x[i]),
        Data::Int(x) => Value::I(x[i]),
    }
}

pub(super) fn store(t: &mut Tensor, at: usize, x: Value) {
    match &mut t.data {
        Data::Float(to) => to[at] = x.f(),
        Data::Int(to) => to[at] = x.i(),
    }
}

pub(super) fn map(p: &Map, inputs: &[&Tensor], out: &mut [Tensor]) {
    let offsets: Vec<Vec<usize>> = p.inputs.iter().map(|o| o.view.offsets().collect()).collect();
    let targets: Vec<Vec<usize>> = p.outputs.iter().map(|o| o.view.offsets().collect()).collect();
    let mut point = vec![0; p.shape.len()];
    let mut values = vec![];
    for i in 0..p.shape.iter().product() {
        scalar::run(&p.function, &|n| value(inputs[n], offsets[n][i]), &point, &mut values);
        for (o, &result) in p.function.outputs.iter().enumerate() {
            store(&mut out[o], targets[o][i], values[usize::from(result)]);
        }
        advance(&mut point, &p.shape);
    }
}

pub(super) fn copy(p: &Move, inputs: &[&Tensor], out: &mut [Tensor]) {
    if let Some(bits) = p.fill {
        match &mut out[0].data {
            Data::Float(x) => x.fill(f64::from_bits(bits)),
            Data::Int(x) => x.fill(bits as i64),
        }
    }
    for (part, input) in p.parts.iter().zip(inputs) {
        for (from, to) in part.from.offsets().zip(part.to.offsets()) {
            out[0].set(to, input, from);
        }
    }
}
