//! [LinearAttention](https://onnx.ai/onnx/operators/onnx__LinearAttention.html): attention by a state of fixed size, step by step: the state decays,
//! is corrected by what it returns for a key (the delta rule), takes key and value, and answers the query.

use super::mat_mul::matmul;
use super::{Context, Imported, OpDef, Refusal};
use crate::graph::{Op, ValueId};
use wpk_plan::{Binary, DType, Unary};

pub(super) const OP: OpDef = OpDef { name: "LinearAttention", import };

/// Most steps that are unrolled into the graph.
const STEPS: usize = 4096;

fn import(cx: &mut Context<'_>) -> Imported {
    let rule = cx.attrs.text("update_rule").unwrap_or_else(|| "gated_delta".to_owned());
    let (gated, delta) = match rule.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return cx.unsupported("update_rule", other),
    };
    let heads = |cx: &Context<'_>, name: &str| cx.attrs.int(name).and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let (Some(readers), Some(heads)) = (heads(cx, "q_num_heads"), heads(cx, "kv_num_heads")) else {
        return Err("q_num_heads and kv_num_heads are needed".into());
    };
    let inputs = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
    let types = inputs.map(|v| cx.shape(v));
    let [[batch, steps, q_width], [.., k_width], [.., v_width]] = [&types[0][..], &types[1][..], &types[2][..]] else {
        return Err(format!("queries, keys and values of {types:?} should have three dimensions").into());
    };
    let (batch, steps) = (*batch, *steps);
    let (depth, width) = (k_width / heads, v_width / heads);
    let fits = readers % heads == 0 && q_width % readers == 0 && q_width / readers == depth && k_width % heads == 0 && v_width % heads == 0;
    if !fits || types.iter().any(|t| t.len() != 3 || t[..2] != [batch, steps]) || steps == 0 || steps > STEPS {
        return Err(format!("{readers} readers and {heads} heads do not fit {types:?} (of at most {STEPS} steps)").into());
    }
    // [batch, steps, heads * n] as [batch, heads, steps, n], in single precision.
    let by_head = |cx: &mut Context<'_>, v: ValueId, count: usize| -> Result<ValueId, Refusal> {
        let (shape, wide) = (cx.shape(v), cx.b.cast(v, DType::F32)?);
        if shape.len() != 3 || shape[..2] != [batch, steps] || shape[2] % count != 0 {
            return Err(format!("an input of {shape:?} does not fit {count} heads").into());
        }
        let split = cx.b.reshape(wide, &[batch, steps, count, shape[2] / count])?;
        Ok(cx.b.transpose(split, &[0, 2, 1, 3])?)
    };
    let (q, k, v) = (by_head(cx, inputs[0], readers)?, by_head(cx, inputs[1], heads)?, by_head(cx, inputs[2], heads)?);
    let decay = if gated { Some(by_head(cx, cx.input(4)?, heads)?) } else { None };
    let beta = match delta.then(|| cx.input(5)).transpose()? {
        Some(beta) => {
            let count = cx.shape(beta).last().copied().filter(|n| *n == 1 || *n == heads).ok_or("beta does not fit the heads")?;
            Some(by_head(cx, beta, count)?)
        }
        None => None,
    };
    let (mut state, state_type) = match cx.optional(3) {
        Some(past) => (cx.b.cast(past, DType::F32)?, cx.dtype(past)),
        None => {
            let zero = cx.b.scalar(0.0, DType::F32);
            (cx.b.one(Op::Expand(vec![batch, heads, depth, width]), &[zero])?, cx.dtype(inputs[0]))
        }
    };
    if cx.shape(state) != [batch, heads, depth, width] {
        return Err(format!("a state of {:?} should be {:?}", cx.shape(state), [batch, heads, depth, width]).into());
    }
    let mut answers = vec![];
    for t in 0..steps {
        let key = cx.b.range(k, 2, t, 1)?;
        let mut value = cx.b.range(v, 2, t, 1)?;
        if let Some(decay) = decay {
            let now = cx.b.range(decay, 2, t, 1)?;
            let now = cx.b.transpose(now, &[0, 1, 3, 2])?;
            state = cx.b.map(&[state, now], |f, i| {
                let kept = f.unary(Unary::Exp, i[1]);
                f.binary(Binary::Mul, i[0], kept)
            })?;
        }
        if let Some(beta) = beta {
            let known = matmul(cx, key, state)?;
            let rate = cx.b.range(beta, 2, t, 1)?;
            value = cx.b.map(&[value, known, rate], |f, i| {
                let new = f.binary(Binary::Sub, i[0], i[1]);
                f.binary(Binary::Mul, new, i[2])
            })?;
        }
        let column = cx.b.transpose(key, &[0, 1, 3, 2])?;
        state = cx.b.map(&[state, column, value], |f, i| {
            let written = f.binary(Binary::Mul, i[1], i[2]);
            f.binary(Binary::Add, i[0], written)
        })?;
        let query = cx.b.range(q, 2, t, 1)?;
        let query = cx.b.reshape(query, &[batch, heads, readers / heads, depth])?;
        let answer = matmul(cx, query, state)?;
        answers.push(cx.b.reshape(answer, &[batch, 1, readers * width])?);
    }
    let scale = cx.attrs.float("scale").filter(|&s| s != 0.0).unwrap_or(1.0 / (depth as f64).sqrt());
    let all = cx.b.one(Op::Concat(1), &answers)?;
    let to = cx.dtype(inputs[0]);
    let y = cx.b.map(&[all], |f, i| {
        let scale = f.constant(scale, DType::F32);
        let y = f.binary(Binary::Mul, i[0], scale);
        f.cast(y, to)
    })?;
    Ok(vec![y, cx.b.cast(state, state_type)?])
}
