//! [Range](https://onnx.ai/onnx/operators/onnx__Range.html): evenly spaced values between constants.

use super::Refusal;
use super::{Context, Imported, OpDef};
use crate::graph::{Bound, Linear, Literal, Op, ValueId};
use wpk_plan::{Binary, ScalarFn};

/// Values that may follow from sizes of a request.
const MOST: usize = 1 << 20;

pub(super) const OP: OpDef = OpDef { name: "Range", import };

fn import(cx: &mut Context<'_>) -> Imported {
    if let Some(range) = counted(cx)? {
        return Ok(vec![range]);
    }
    let get = |i: usize, what: &str| -> Result<Literal, Refusal> {
        cx.constant(i, what)?.filter(|l| l.len() == 1).ok_or_else(|| format!("{what} is not one number").into())
    };
    let (start, limit, delta) = (get(0, "start")?, get(1, "limit")?, get(2, "delta")?);
    let dtype = start.dtype;
    let (f, i) = (|l: &Literal| l.to_floats()[0], |l: &Literal| l.to_ints()[0]);
    let count = if dtype.is_float() {
        ((f(&limit) - f(&start)) / f(&delta)).ceil()
    } else {
        let (span, step) = (i128::from(i(&limit)) - i128::from(i(&start)), i128::from(i(&delta)));
        if step == 0 { f64::NAN } else { ((span + step - step.signum()) / step) as f64 }
    };
    if !count.is_finite() || count > f64::from(u32::MAX) {
        return Err("the range has no end".into());
    }
    let mut function = ScalarFn::default();
    let index = function.index(0);
    let index = function.cast(index, dtype);
    let (start, delta) = if dtype.is_float() {
        (function.constant(f(&start), dtype), function.constant(f(&delta), dtype))
    } else {
        (function.integer(i(&start), dtype), function.integer(i(&delta), dtype))
    };
    let offset = function.binary(Binary::Mul, index, delta);
    let value = function.binary(Binary::Add, offset, start);
    function.outputs = vec![value];
    Ok(vec![cx.b.one(Op::Map { function, shape: vec![count.max(0.0) as usize] }, &[])?])
}

/// A range whose start or limit follows from counts.
fn counted(cx: &mut Context<'_>) -> Result<Option<ValueId>, Refusal> {
    let given: Vec<ValueId> = (0..3).map(|i| cx.input(i)).collect::<Result<_, _>>()?;
    if given.iter().all(|&v| cx.b.fixed(v).is_some()) {
        return Ok(None);
    }
    let dtype = cx.dtype(given[0]);
    let forms: Option<Vec<Linear>> = given.iter().map(|&v| cx.b.forms(v)?.first().cloned()).collect();
    let Some([start, limit, delta]) = forms.as_deref() else { return Ok(None) };
    let count = delta.known().filter(|&d| d != 0).and_then(|by| limit.add(start, -1)?.divided(by)).filter(|n| cx.b.span(n).0 >= 0);
    let (Some(count), Some(by)) = (count, delta.known()) else {
        return Err("how many values there are is no multiple of a size that is known at run time".into());
    };
    let most = cx.extents(std::slice::from_ref(&count), "count")?[0];
    if most > MOST {
        return Err(
            format!("up to {most} values follow from sizes that are known at run time, more than {MOST}; declare smaller ranges").into()
        );
    }
    let forms = (0..most as i64).map(|i| start.add(&Linear::constant(i.checked_mul(by)?), 1)).collect::<Option<Vec<_>>>();
    let values = cx.b.sized(dtype, &[most], forms.ok_or("the range is too long")?);
    let bounds: &[Bound] = if count.known().is_some() { &[] } else { &[Bound::first(0, count, most)] };
    Ok(Some(cx.b.bound(values, bounds)))
}
