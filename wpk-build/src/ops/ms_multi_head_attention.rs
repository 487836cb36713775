//! [com.microsoft::MultiHeadAttention](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MultiHeadAttention): attention of projected queries, keys and values, with their bias, a
//! mask of keys, a bias of scores, and keys and values of the past.

use super::attention::heads;
use super::mat_mul::matmul;
use super::{Context, Imported, OpDef, Refusal};
use crate::graph::{Op, ValueId};
use wpk_plan::{Binary, DType, ScalarFn};

pub(super) const OP: OpDef = OpDef { name: "com.microsoft::MultiHeadAttention", import };

fn import(cx: &mut Context<'_>) -> Imported {
    if cx.inputs.iter().skip(8).any(Option::is_some) {
        return Err("caches of fixed length (inputs 8 and 9) are not supported".into());
    }
    let (Some(k), Some(v)) = (cx.optional(1), cx.optional(2)) else {
        return Err("packed queries, keys and values are not supported".into());
    };
    let inputs = [cx.input(0)?, k, v];
    let widths: Vec<usize> = inputs.iter().map(|&v| cx.shape(v).last().copied().unwrap_or(0)).collect();
    let mut own = vec![];
    let mut at = 0;
    for (i, &x) in inputs.iter().enumerate() {
        let mut x = x;
        if let (Some(bias), 3) = (cx.optional(3), cx.shape(x).len()) {
            let part = cx.b.range(bias, 0, at, widths[i])?;
            x = cx.b.binary(Binary::Add, x, part)?;
            at += widths[i];
        }
        own.push(heads(cx, x, "num_heads")?);
    }
    let [q, mut k, mut v] = own[..] else { return Err("queries, keys and values are needed".into()) };
    let mut past = 0;
    if let (Some(past_k), Some(past_v)) = (cx.optional(6), cx.optional(7)) {
        past = cx.shape(past_k).get(2).copied().ok_or("past_key does not have four dimensions")?;
        k = cx.b.one(Op::Concat(2), &[past_k, k])?;
        v = cx.b.one(Op::Concat(2), &[past_v, v])?;
    }
    let (&[batch, _, rows, depth], &[_, _, keys, _]) = (&cx.shape(q)[..], &cx.shape(k)[..]) else {
        return Err("queries and keys do not have four dimensions".into());
    };
    let t = cx.dtype(q);
    let scale = cx.attrs.float("scale").filter(|&s| s != 0.0).unwrap_or(1.0 / (depth as f64).sqrt());
    let scale = cx.b.scalar(scale, t);
    let turned = cx.b.transpose(k, &[0, 1, 3, 2])?;
    let scores = matmul(cx, q, turned)?;
    let mut scores = cx.b.binary(Binary::Mul, scores, scale)?;
    if let Some(mask) = cx.optional(4) {
        let hidden = hidden(cx, mask, [batch, rows, keys], t)?;
        scores = cx.b.binary(Binary::Add, scores, hidden)?;
    }
    if let Some(bias) = cx.optional(5) {
        scores = cx.b.binary(Binary::Add, scores, bias)?;
    }
    if cx.attrs.flag("unidirectional", false) {
        let mut f = ScalarFn::default();
        let (row, key, past) = (f.index(0), f.index(1), f.integer(past as i64, DType::I64));
        let at = f.binary(Binary::Add, row, past);
        let (seen, zero, never) = (f.binary(Binary::Le, key, at), f.constant(0.0, t), f.constant(f64::NEG_INFINITY, t));
        f.outputs = vec![f.select(seen, zero, never)];
        let causal = cx.b.one(Op::Map { function: f, shape: vec![rows, keys] }, &[])?;
        scores = cx.b.binary(Binary::Add, scores, causal)?;
    }
    let weights = cx.b.one(Op::Softmax { log: false }, &[scores])?;
    let y = matmul(cx, weights, v)?;
    let y = cx.b.transpose(y, &[0, 2, 1, 3])?;
    let width: usize = cx.shape(y)[2..].iter().product();
    Ok(vec![cx.b.reshape(y, &[batch, rows, width])?, k, v])
}

/// What is added to scores of keys: the filter value where the mask is zero. A mask holds an element a key, or one row and key, or
/// the number of keys of each sequence.
fn hidden(cx: &mut Context<'_>, mask: ValueId, [batch, rows, keys]: [usize; 3], t: DType) -> Result<ValueId, Refusal> {
    let filter = cx.attrs.float("mask_filter_value").unwrap_or(-10000.0);
    let shape = cx.shape(mask);
    let of = match shape[..] {
        [b, n] if b == batch && n == keys => vec![batch, 1, 1, keys],
        [b, r, n] if b == batch && r == rows && n == keys => vec![batch, 1, rows, keys],
        [b] if b == batch => vec![batch, 1, 1, 1],
        _ => return Err(format!("a mask of {shape:?} is not supported").into()),
    };
    let mask = cx.b.reshape(mask, &of)?;
    let mut f = ScalarFn::default();
    let element = f.input(0, cx.dtype(mask));
    let (zero, filter) = (f.constant(0.0, t), f.constant(filter, t));
    let seen = if shape.len() == 1 {
        let (key, count) = (f.index(3), f.cast(element, DType::I64));
        f.binary(Binary::Lt, key, count)
    } else {
        let nothing = f.integer(0, f.dtype(element));
        let masked = f.binary(Binary::Eq, element, nothing);
        f.unary(wpk_plan::Unary::Not, masked)
    };
    f.outputs = vec![f.select(seen, zero, filter)];
    let shape = vec![batch, 1, if of[2] == 1 { 1 } else { rows }, keys];
    Ok(cx.b.one(Op::Map { function: f, shape }, &[mask])?)
}
