//! [Attention](https://onnx.ai/onnx/operators/onnx__Attention.html): scaled dot-product attention of several heads, with masks, a causal
//! frontier, a window, keys and values of the past, and heads of keys that several heads of queries share.

use super::mat_mul::matmul;
use super::{Context, Imported, OpDef, Refusal};
use crate::graph::{Op, ValueId};
use crate::onnx::dtype;
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, DType, ScalarFn, Unary};

pub(super) const OP: OpDef = OpDef { name: "Attention", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let q = cx.input(0)?;
    let flat = cx.shape(q).len() == 3;
    let q = heads(cx, q, "q_num_heads")?;
    let [mut k, mut v] = [heads(cx, cx.input(1)?, "kv_num_heads")?, heads(cx, cx.input(2)?, "kv_num_heads")?];
    let mut past = 0;
    if let (Some(past_k), Some(past_v)) = (cx.optional(4), cx.optional(5)) {
        past = cx.shape(past_k).get(2).copied().ok_or("past_key does not have four dimensions")?;
        k = cx.b.one(Op::Concat(2), &[past_k, k])?;
        v = cx.b.one(Op::Concat(2), &[past_v, v])?;
    }
    let (present_k, present_v) = (k, v);
    let [batch, count, rows, depth] = cx.shape(q)[..] else { return Err("the queries do not have four dimensions".into()) };
    let (k, v) = (shared(cx, k, count)?, shared(cx, v, count)?);
    let keys = cx.shape(k)[2];

    let t = cx.dtype(q);
    let scale = cx.attrs.float("scale").unwrap_or_else(|| 1.0 / (depth as f64).sqrt()).sqrt();
    let scale = cx.b.scalar(scale, t);
    let (q, k) = (cx.b.binary(Binary::Mul, q, scale)?, cx.b.binary(Binary::Mul, k, scale)?);
    let k = cx.b.transpose(k, &[0, 1, 3, 2])?;
    let mut scores = matmul(cx, q, k)?;
    if let Some(cap) = cx.attrs.float("softcap").filter(|&cap| cap != 0.0) {
        scores = cx.b.map(&[scores], |f, i| {
            let cap = f.constant(cap, t);
            let part = f.binary(Binary::Div, i[0], cap);
            let bent = f.unary(Unary::Tanh, part);
            f.binary(Binary::Mul, bent, cap)
        })?;
    }
    let capped = scores;
    let bias = bias(cx, [batch, rows, keys], past, t)?;
    if let Some(bias) = bias {
        scores = cx.b.binary(Binary::Add, scores, bias)?;
    }
    let precise = match cx.attrs.int("softmax_precision").filter(|&p| p != 0) {
        Some(p) => cx.b.cast(scores, dtype(p as i32).map_err(|t| format!("softmax_precision={t} is not supported"))?)?,
        None => scores,
    };
    let weights = cx.b.one(Op::Softmax { log: false }, &[precise])?;
    let weights = cx.b.cast(weights, t)?;
    let y = matmul(cx, weights, v)?;
    let mut y = keyless(cx, y, bias)?;
    if flat {
        let by_row = cx.b.transpose(y, &[0, 2, 1, 3])?;
        let width: usize = cx.shape(by_row)[2..].iter().product();
        y = cx.b.reshape(by_row, &[batch, rows, width])?;
    }
    let shown = match cx.attrs.int("qk_matmul_output_mode").unwrap_or(0) {
        _ if cx.wanted.get(3) != Some(&true) => y,
        0 | 1 => capped,
        2 => scores,
        3 => keyless(cx, weights, bias)?,
        mode => return cx.unsupported("qk_matmul_output_mode", mode),
    };
    Ok(vec![y, present_k, present_v, shown])
}

/// `[batch, rows, heads * depth]` as `[batch, heads, rows, depth]`; four dimensions stay.
pub(super) fn heads(cx: &mut Context<'_>, x: ValueId, attribute: &str) -> Result<ValueId, Refusal> {
    match cx.shape(x)[..] {
        [_, _, _, _] => Ok(x),
        [batch, rows, width] => {
            let count = cx.attrs.int(attribute).and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0 && width % n == 0);
            let count = count.ok_or_else(|| format!("{attribute} does not divide a width of {width}"))?;
            let split = cx.b.reshape(x, &[batch, rows, count, width / count])?;
            Ok(cx.b.transpose(split, &[0, 2, 1, 3])?)
        }
        ref other => Err(format!("{other:?} has neither three nor four dimensions").into()),
    }
}

/// Every head of keys or values repeated for the heads of queries that share it.
fn shared(cx: &mut Context<'_>, x: ValueId, count: usize) -> Result<ValueId, Refusal> {
    let [batch, own, rows, depth] = cx.shape(x)[..] else { return Err("keys and values need as many dimensions as queries".into()) };
    if own == count {
        return Ok(x);
    }
    if !count.is_multiple_of(own) {
        return Err(format!("{count} heads of queries cannot share {own} of keys").into());
    }
    let x = cx.b.reshape(x, &[batch, own, 1, rows, depth])?;
    let x = cx.b.one(Op::Expand(vec![batch, own, count / own, rows, depth]), &[x])?;
    Ok(cx.b.reshape(x, &[batch, count, rows, depth])?)
}

/// What is added to the scores: 0 where a row may see a key, else minus infinity; and the mask's own numbers.
fn bias(cx: &mut Context<'_>, [batch, rows, keys]: [usize; 3], past: usize, t: DType) -> Result<Option<ValueId>, Refusal> {
    let mask = match cx.optional(3) {
        Some(mask) => Some(additive(cx, mask, keys, t)?),
        None => None,
    };
    let causal = cx.attrs.flag("is_causal", false);
    let window = |name| cx.attrs.int(name).filter(|&n| n >= 0);
    let (left, right) = (window("left_window_size"), window("right_window_size"));
    let valid = cx.optional(6);
    if !causal && left.is_none() && right.is_none() && valid.is_none() {
        return Ok(mask);
    }
    let mut f = ScalarFn::default();
    let (row, key) = (f.index(2), f.index(3));
    let valid_keys = valid.map(|v| {
        let n = f.input(0, cx.dtype(v));
        f.cast(n, DType::I64)
    });
    // The last row stands at the last key of those that are valid, or the first after the past.
    let first = match valid_keys {
        Some(n) => {
            let rows = f.integer(rows as i64, DType::I64);
            f.binary(Binary::Sub, n, rows)
        }
        None => f.integer(past as i64, DType::I64),
    };
    let at = f.binary(Binary::Add, row, first);
    let mut seen = valid_keys.map(|n| f.binary(Binary::Lt, key, n));
    let mut both = |f: &mut ScalarFn, test: u16| seen = Some(seen.map_or(test, |s| f.binary(Binary::And, s, test)));
    let bounds = [causal.then_some((0, false)), left.map(|n| (n, true)), right.map(|n| (n, false))];
    for (reach, before) in bounds.into_iter().flatten() {
        let reach = f.integer(reach, DType::I64);
        let distance = if before { f.binary(Binary::Sub, at, key) } else { f.binary(Binary::Sub, key, at) };
        let test = f.binary(Binary::Le, distance, reach);
        both(&mut f, test);
    }
    let (zero, never) = (f.constant(0.0, t), f.constant(f64::NEG_INFINITY, t));
    let result = f.select(seen.ok_or("no bound")?, zero, never);
    f.outputs = vec![result];
    let mut inputs = vec![];
    if let Some(v) = valid {
        inputs.push(cx.b.reshape(v, &[batch, 1, 1, 1])?);
    }
    let shape = vec![if valid.is_some() { batch } else { 1 }, 1, rows, keys];
    let hidden = cx.b.one(Op::Map { function: f, shape }, &inputs)?;
    Ok(Some(match mask {
        Some(mask) => cx.b.binary(Binary::Add, hidden, mask)?,
        None => hidden,
    }))
}

/// A mask as numbers to add, of four dimensions; keys beyond a short mask are hidden.
fn additive(cx: &mut Context<'_>, mask: ValueId, keys: usize, t: DType) -> Result<ValueId, Refusal> {
    let mut mask = mask;
    if cx.dtype(mask) == DType::Bool {
        mask = cx.b.map(&[mask], |f, i| {
            let (zero, never) = (f.constant(0.0, t), f.constant(f64::NEG_INFINITY, t));
            f.select(i[0], zero, never)
        })?;
    }
    let shape = cx.shape(mask);
    let Some((&own, lead)) = shape.split_last().filter(|_| shape.len() <= 4) else { return Err("attn_mask has no usable extents".into()) };
    let mask = cx.b.reshape(mask, &[&vec![1; 4 - shape.len()], lead, &[own]].concat())?;
    if own >= keys || own == 1 {
        return Ok(mask);
    }
    let after = vec![0, 0, 0, keys - own];
    Ok(cx.b.one(Op::Pad { before: vec![0; 4], after, fill: f64::NEG_INFINITY.to_bits() }, &[mask])?)
}

/// Zero in rows that may see no key, whose softmax has no value.
fn keyless(cx: &mut Context<'_>, y: ValueId, bias: Option<ValueId>) -> Result<ValueId, Refusal> {
    let Some(bias) = bias else { return Ok(y) };
    let most = cx.b.reduce(ReduceKind::Max, bias, &[3])?;
    if cx.b.fixed(most).is_some_and(|l| l.to_floats().iter().all(|&m| m > f64::NEG_INFINITY)) {
        return Ok(y);
    }
    Ok(cx.b.map(&[most, y], |f, i| {
        let (never, zero) = (f.constant(f64::NEG_INFINITY, f.dtype(i[0])), f.constant(0.0, f.dtype(i[1])));
        let hidden = f.binary(Binary::Eq, i[0], never);
        f.select(hidden, zero, i[1])
    })?)
}
