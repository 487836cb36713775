//! Reductions over whole dimensions.

use super::scalar::{Value, binary};
use super::{Tensor, map};
use wpk_plan::problem::{Reduce, ReduceKind};
use wpk_plan::{Binary, View};

pub(super) fn eval(p: &Reduce, inputs: &[&Tensor], out: &mut [Tensor]) {
    let dtype = p.input.dtype;
    let view = &p.input.view;
    let reduced: Vec<usize> = (0..p.axes.len()).filter(|&d| p.axes[d]).collect();
    let kept: Vec<usize> = (0..p.axes.len()).filter(|&d| !p.axes[d]).collect();
    let mut inner = view.transpose(&reduced);
    inner.offset = 0;
    let bias = inner.strides.iter().zip(&inner.shape).map(|(s, &n)| (s * (n as i64 - 1)).min(0)).sum::<i64>();
    inner.offset = (-bias) as usize;
    let steps: Vec<i64> = inner.offsets().map(|o| o as i64 + bias).collect();
    let outer: View = view.transpose(&kept);
    let targets: Vec<usize> = p.output.view.offsets().collect();
    for (base, to) in outer.offsets().zip(targets) {
        let elements = steps.iter().map(|s| map::value(inputs[0], (base as i64 + s) as usize));
        let fold = |start: Value, b: Binary| elements.clone().fold(start, |x, y| binary(b, x, y, dtype));
        let zero = if dtype.is_float() { Value::F(0.0) } else { Value::I(0) };
        let result = match p.kind {
            ReduceKind::Sum => fold(zero, Binary::Add),
            ReduceKind::Mean => match fold(zero, Binary::Add) {
                Value::F(x) => Value::F(x / steps.len() as f64),
                Value::I(x) => Value::I(x.checked_div(steps.len() as i64).unwrap_or(0)),
            },
            ReduceKind::Max if dtype.is_float() => fold(Value::F(f64::NEG_INFINITY), Binary::Max),
            ReduceKind::Min if dtype.is_float() => fold(Value::F(f64::INFINITY), Binary::Min),
            ReduceKind::Max => fold(Value::I(dtype.int_range().0), Binary::Max),
            ReduceKind::Min => fold(Value::I(dtype.int_range().1), Binary::Min),
            ReduceKind::Prod => fold(if dtype.is_float() { Value::F(1.0) } else { Value::I(1) }, Binary::Mul),
            ReduceKind::SumAbs => elements.fold(zero, |s, x| match (s, x) {
                (Value::F(s), x) => Value::F(s + x.f().abs()),
                (Value::I(s), x) => Value::I(dtype.wrap(s.wrapping_add(x.i().wrapping_abs()))),
            }),
            ReduceKind::SumSquare => elements.fold(zero, |s, x| binary(Binary::Add, s, binary(Binary::Mul, x, x, dtype), dtype)),
        };
        map::store(&mut out[0], to, result);
    }
}
