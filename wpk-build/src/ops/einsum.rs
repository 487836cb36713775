//! [Einsum](https://onnx.ai/onnx/operators/onnx__Einsum.html): sums of products by a formula of index letters.

use super::Refusal;
use super::{Context, Imported, OpDef};
use crate::graph::{Op, ValueId};
use wpk_plan::problem::ReduceKind;

pub(super) const OP: OpDef = OpDef { name: "Einsum", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let inputs = cx.all()?;
    let text: String = cx.attrs.text("equation").unwrap_or_default().chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = text.split_once("->").map_or((text.as_str(), None), |(l, r)| (l, Some(r)));
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != inputs.len() || inputs.is_empty() {
        return Err(format!("equation {text:?} does not have {} terms", inputs.len()).into());
    }
    let mut named = vec![];
    let mut dots = 0;
    for (term, &v) in terms.iter().zip(&inputs) {
        let rank = cx.shape(v).len();
        let letters = term.chars().filter(|c| *c != '.').count();
        dots = dots.max(if term.contains("...") { rank.saturating_sub(letters) } else { 0 });
        named.push((term, rank));
    }
    let mut operands = vec![];
    for ((term, rank), &v) in named.iter().zip(&inputs) {
        let labels = labels(term, *rank, dots).ok_or_else(|| format!("term {term:?} of {text:?} does not fit {:?}", cx.shape(v)))?;
        operands.push(diagonal(cx, v, labels)?);
    }
    let out = match right {
        Some(right) => labels(right, right.chars().filter(|c| *c != '.').count() + dots, dots)
            .ok_or_else(|| format!("result of {text:?} is malformed"))?,
        None => {
            let all: Vec<u8> = operands.iter().flat_map(|o| o.1.clone()).collect();
            let letters = terms.join("");
            let once = |l: &u8| letters.chars().filter(|&c| c as u32 == u32::from(*l)).count() == 1;
            let mut out: Vec<u8> = (0..dots as u8).collect();
            let mut rest: Vec<u8> = all.iter().copied().filter(|l| *l >= 64 && once(l)).collect();
            rest.sort_unstable();
            out.extend(rest);
            out
        }
    };
    let mut rest = operands.into_iter();
    let mut total = rest.next().ok_or("there is no operand")?;
    let mut rest: Vec<_> = rest.collect();
    while !rest.is_empty() {
        let next = rest.remove(0);
        let needed = |l: &u8| out.contains(l) || rest.iter().any(|r: &(ValueId, Vec<u8>)| r.1.contains(l));
        let mut keep: Vec<u8> = vec![];
        for l in total.1.iter().chain(&next.1) {
            if needed(l) && !keep.contains(l) {
                keep.push(*l);
            }
        }
        if rest.is_empty() && out.iter().all(|l| keep.contains(l)) {
            keep = out.clone();
        }
        let (total_squeezed, next_squeezed) = (squeeze(cx, &total, &next)?, squeeze(cx, &next, &total)?);
        let op = Op::Contract { a: total_squeezed.1, b: next_squeezed.1, out: keep.clone(), epilogue: None };
        let (dtype, sum) = (cx.dtype(total.0), cx.b.one(op, &[total_squeezed.0, next_squeezed.0])?);
        total = (cx.b.cast(sum, dtype)?, keep);
    }
    let (mut x, found) = total;
    let summed: Vec<usize> = (0..found.len()).filter(|&d| !out.contains(&found[d])).collect();
    if !summed.is_empty() {
        x = cx.b.reduce(ReduceKind::Sum, x, &summed)?;
        let kept: Vec<usize> = (0..found.len()).filter(|d| !summed.contains(d)).map(|d| cx.shape(x)[d]).collect();
        x = cx.b.reshape(x, &kept)?;
    }
    let left: Vec<u8> = found.into_iter().filter(|l| out.contains(l)).collect();
    let perm: Option<Vec<usize>> = out.iter().map(|l| left.iter().position(|m| m == l)).collect();
    let perm = perm.ok_or_else(|| format!("the result of {text:?} names an index that no term has"))?;
    Ok(vec![cx.b.transpose(x, &perm)?])
}

/// A label per dimension: letters are themselves, those of an ellipsis count from 0.
fn labels(term: &str, rank: usize, dots: usize) -> Option<Vec<u8>> {
    let Some((before, after)) = term.split_once("...") else {
        return (term.len() == rank && term.bytes().all(|b| b.is_ascii_alphabetic())).then(|| term.bytes().collect());
    };
    let covered = rank.checked_sub(before.len() + after.len())?;
    let middle = (dots.checked_sub(covered)?..dots).map(|d| d as u8);
    before.bytes().chain(middle).chain(after.bytes()).all(|b| b < 64 || b.is_ascii_alphabetic()).then_some(())?;
    let middle = (dots - covered..dots).map(|d| d as u8);
    Some(before.bytes().chain(middle).chain(after.bytes()).collect())
}

/// Repeated labels of one operand select its diagonal.
fn diagonal(cx: &mut Context<'_>, v: ValueId, labels: Vec<u8>) -> Result<(ValueId, Vec<u8>), Refusal> {
    let (mut v, mut labels) = (v, labels);
    while let Some((i, j)) = (0..labels.len()).find_map(|j| labels[..j].iter().position(|l| *l == labels[j]).map(|i| (i, j))) {
        let shape = cx.shape(v);
        if shape[i] != shape[j] {
            return Err(format!("dimensions {i} and {j} of {shape:?} share a letter and differ").into());
        }
        let n = shape[i];
        let perm: Vec<usize> = (0..shape.len()).filter(|&d| d != i && d != j).chain([i, j]).collect();
        v = cx.b.transpose(v, &perm)?;
        let mut flat = cx.shape(v);
        flat.truncate(flat.len() - 2);
        let (rank, rest) = (flat.len(), flat.clone());
        flat.push(n * n);
        v = cx.b.reshape(v, &flat)?;
        let (mut start, mut step, mut count) = (vec![0; rank + 1], vec![1; rank + 1], rest);
        count.push(n);
        (start[rank], step[rank]) = (0, n as i64 + 1);
        v = cx.b.one(Op::Slice { start, step, count }, &[v])?;
        let label = labels[i];
        labels.remove(j);
        labels.remove(i);
        labels.push(label);
    }
    Ok((v, labels))
}

/// Dimensions of extent 1 that broadcast against the other operand, removed.
fn squeeze(cx: &mut Context<'_>, x: &(ValueId, Vec<u8>), other: &(ValueId, Vec<u8>)) -> Result<(ValueId, Vec<u8>), Refusal> {
    let (shape, theirs) = (cx.shape(x.0), cx.shape(other.0));
    let drop = |d: usize| shape[d] == 1 && other.1.iter().position(|l| *l == x.1[d]).is_some_and(|e| theirs[e] != 1);
    let kept: Vec<usize> = (0..shape.len()).filter(|&d| !drop(d)).collect();
    let v = cx.b.reshape(x.0, &kept.iter().map(|&d| shape[d]).collect::<Vec<_>>())?;
    Ok((v, kept.iter().map(|&d| x.1[d]).collect()))
}
