//! Scaled dot-product attention.

use super::rows::softmax_row;
use super::scalar::Value;
use super::{Tensor, map, read};
use wpk_plan::problem::Attention;

pub(super) fn eval(p: &Attention, inputs: &[&Tensor], out: &mut [Tensor]) {
    let (q, k, v) = (read(inputs[0], &p.q), read(inputs[1], &p.k), read(inputs[2], &p.v));
    let mask = p.mask.as_ref().map(|m| read(inputs[3], m));
    let [_, _, queries, depth] = p.q.view.shape[..] else { return };
    let (keys, width) = (p.k.view.shape[2], p.v.view.shape[3]);
    let targets: Vec<usize> = p.out.view.offsets().collect();
    for (row, targets) in targets.chunks(width.max(1)).enumerate() {
        let head = row / queries;
        let score = |t: usize| {
            let dot: f64 = (0..depth).map(|d| q.f(row * depth + d) * k.f((head * keys + t) * depth + d)).sum();
            dot * p.scale + mask.as_ref().map_or(0.0, |m| m.f(row * keys + t))
        };
        let mut scores: Vec<f64> = (0..keys).map(score).collect();
        softmax_row(&mut scores, false);
        for (d, &to) in targets.iter().enumerate() {
            let y = scores.iter().enumerate().map(|(t, s)| s * v.f((head * keys + t) * width + d)).sum();
            map::store(&mut out[0], to, Value::F(y));
        }
    }
}
