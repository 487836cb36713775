//! Softmax and normalization.

use super::scalar::Value;
use super::{Tensor, map, read};
use wpk_plan::problem::{NormKind, Normalize, Softmax};

pub(super) fn softmax_row(x: &mut [f64], log: bool) {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
    for x in x {
        *x = if log { *x - max - sum.ln() } else { (*x - max).exp() / sum };
    }
}

pub(super) fn softmax(p: &Softmax, inputs: &[&Tensor], out: &mut [Tensor]) {
    let x = read(inputs[0], &p.input);
    let n = p.input.view.shape.last().copied().unwrap_or(1).max(1);
    let targets: Vec<usize> = p.output.view.offsets().collect();
    for (r, targets) in targets.chunks(n).enumerate() {
        let mut row: Vec<f64> = (0..n).map(|i| x.f(r * n + i)).collect();
        softmax_row(&mut row, p.log);
        targets.iter().zip(row).for_each(|(&to, x)| map::store(&mut out[0], to, Value::F(x)));
    }
}

pub(super) fn normalize(p: &Normalize, inputs: &[&Tensor], out: &mut [Tensor]) {
    let mut inputs = inputs.iter().copied();
    let mut next = |operand: Option<&wpk_plan::Operand>| operand.and_then(|o| Some(read(inputs.next()?, o)));
    let Some(x) = next(Some(&p.input)) else { return };
    let residual = next(p.residual.as_ref().map(|r| &r.0));
    let (scale, bias) = (next(p.scale.as_ref()), next(p.bias.as_ref()));
    let n = p.input.view.shape.last().copied().unwrap_or(1).max(1);
    let sums = p.residual.as_ref().and_then(|r| r.1.as_ref()).map(|o| o.view.offsets().collect::<Vec<_>>());
    let targets: Vec<usize> = p.output.view.offsets().collect();
    for (r, targets) in targets.chunks(n).enumerate() {
        let row: Vec<f64> = (r * n..r * n + n).map(|i| x.f(i) + residual.as_ref().map_or(0.0, |t| t.f(i))).collect();
        if let Some(sums) = &sums {
            row.iter().enumerate().for_each(|(i, &x)| map::store(&mut out[1], sums[r * n + i], Value::F(x)));
        }
        let mean = if p.kind == NormKind::Layer { row.iter().sum::<f64>() / n as f64 } else { 0.0 };
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
        let factor = 1.0 / (variance + p.epsilon).sqrt();
        for (i, &to) in targets.iter().enumerate() {
            let at = r * n + i;
            let y = (row[i] - mean) * factor * scale.as_ref().map_or(1.0, |s| s.f(at)) + bias.as_ref().map_or(0.0, |b| b.f(at));
            map::store(&mut out[0], to, Value::F(y));
        }
    }
}
