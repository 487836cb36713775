//! What the window functions share: constant sums of cosines over a length.

use super::{Context, Imported};
use crate::graph::Literal;
use crate::onnx::dtype;

/// `terms[0] + terms[1] cos(a) + terms[2] cos(2 a)`, where `a` goes once around over the length, or short of one step for a symmetric window.
pub(super) fn window(cx: &mut Context<'_>, terms: [f64; 3]) -> Imported {
    let n = cx.constant(0, "size")?.and_then(|l| l.to_ints().first().copied()).filter(|n| (0..1 << 24).contains(n));
    let n = n.ok_or("size is not a usable length")?;
    let t = cx.attrs.int("output_datatype").unwrap_or(1);
    let t = dtype(t as i32).map_err(|t| format!("windows of {t} are not supported"))?;
    let steps = if cx.attrs.flag("periodic", true) { n } else { (n - 1).max(1) };
    let value = |i: i64| {
        let angle = std::f64::consts::TAU * i as f64 / steps as f64;
        (0u8..).zip(terms).map(|(k, term)| term * (f64::from(k) * angle).cos()).sum()
    };
    let values: Vec<f64> = (0..n).map(value).collect();
    Ok(vec![cx.b.constant(Literal::floats(t, &[n as usize], &values))])
}
