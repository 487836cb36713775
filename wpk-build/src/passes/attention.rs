//! Decomposed attention becomes one node: two products around a softmax, with a scale, a mask, and the guard against
//! rows without any key that exporters write.

use super::pattern::{Term, binary, map};
use super::rewrite::{NotFused, Rewrite};
use crate::graph::{Graph, Node, Op, ValueId, broadcast};
use wpk_plan::{Binary, DType, Expr, Unary};

pub(super) fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    let Op::Contract { a, b, out, epilogue: None } = &node.op else { return Ok(None) };
    let rank = out.len();
    if !(3..=4).contains(&rank) || inputs.len() != 2 || cx.b.dtype(inputs[0]) != DType::F32 {
        return Ok(None);
    }
    let g = &cx.b.graph;
    let (probabilities, values) = (inputs[0], inputs[1]);
    let Some(softmax) = unguarded(g, probabilities) else { return Ok(None) };
    let Some((Op::Softmax { log: false }, scores)) = g.op(softmax) else { return Ok(None) };
    let Some(found) = scaled_product(g, scores[0]) else { return Ok(None) };
    let (batch, row) = (&out[..rank - 2], out[rank - 2]);
    let Some((&key, _)) = a.split_last().filter(|(_, rest)| **rest == out[..rank - 1]) else { return Ok(None) };
    let width = out[rank - 1];
    let wanted: Vec<u8> = batch.iter().copied().chain([key, width]).collect();
    let (Some(v_perm), false) = (permutation(b, &wanted), row == key) else { return Ok(None) };
    if !cx.single(probabilities) || !cx.single(softmax) || !cx.single(found.product) {
        cx.refuse(node, softmax, NotFused::Shared);
        return Ok(None);
    }
    cx.merge_origin(node, found.product);
    let mut operands = vec![];
    for (v, perm) in [(found.q, found.q_perm), (found.k, found.k_perm), (values, v_perm)] {
        let v = cx.b.transpose(v, &perm)?;
        let shape = cx.b.shape(v);
        operands.push(if rank == 3 { cx.b.reshape(v, &[&[1], &shape[..]].concat())? } else { v });
    }
    operands.extend(found.mask);
    let y = cx.b.one(Op::Attention { scale: found.scale, mask: found.mask.is_some() }, &operands)?;
    let shape = cx.b.shape(y);
    cx.b.reshape(y, &shape[4 - rank..]).map(|y| Some(vec![y]))
}

/// The permutation that brings labels into another order.
fn permutation(labels: &[u8], wanted: &[u8]) -> Option<Vec<usize>> {
    (labels.len() == wanted.len()).then_some(())?;
    wanted.iter().map(|w| labels.iter().position(|l| l == w)).collect()
}

/// What is behind `isnan(p) ? 0 : p`.
fn unguarded(g: &Graph, v: ValueId) -> Option<ValueId> {
    let Some((f, inputs)) = map(g, v) else { return Some(v) };
    let Expr::Select(c, zero, p) = f.insts[usize::from(f.outputs[0])].expr else { return Some(v) };
    let is = |x: u16, e: Expr| f.insts[usize::from(x)].expr == e;
    let test = |c: u16, i: u16| is(i, Expr::Input(0)) && is(c, Expr::Unary(Unary::IsNan, i));
    let nothing = is(zero, Expr::Const(0));
    if let [only] = inputs {
        return (test(c, p) && nothing).then_some(*only).or(Some(v));
    }
    // The test may still be a node of its own.
    let (Expr::Input(flag), Expr::Input(value)) = (f.insts[usize::from(c)].expr, f.insts[usize::from(p)].expr) else { return Some(v) };
    let (flag, value) = (inputs[usize::from(flag)], inputs[usize::from(value)]);
    let guards = super::pattern::unary(g, flag, Unary::IsNan) == Some(value);
    Some(if guards && nothing { value } else { v })
}

struct Scores {
    product: ValueId,
    q: ValueId,
    q_perm: Vec<usize>,
    k: ValueId,
    k_perm: Vec<usize>,
    scale: f64,
    mask: Option<ValueId>,
}

/// Scores as `q k^T * scale + mask`.
fn scaled_product(g: &Graph, scores: ValueId) -> Option<Scores> {
    let (mut v, mut scale, mut mask) = (scores, 1.0, None);
    loop {
        if let Some((Op::Contract { a, b, out, epilogue: None }, inputs)) = g.op(v) {
            let (rank, k) = (out.len(), a.iter().find(|l| !out.contains(l))?);
            let (batch, row, key) = (out.get(..rank.checked_sub(2)?)?, out[rank - 2], out[rank - 1]);
            let side = |last: u8| batch.iter().copied().chain([last, *k]).collect::<Vec<_>>();
            let (q_perm, k_perm) = (permutation(a, &side(row))?, permutation(b, &side(key))?);
            // Exporters scale queries and keys by the root of the scale; behind the mask nothing else may be scaled.
            let (q, k) = (scaled(g, inputs[0]), scaled(g, inputs[1]));
            return Some(Scores { product: v, q: q.0, q_perm, k: k.0, k_perm, scale: scale * q.1 * k.1, mask });
        }
        let shape = g.shape(v);
        if let Some((Term::Value(x), Term::Const(c))) = binary(g, v, Binary::Mul) {
            (v, scale) = (x, scale * c);
        } else if let Some((Term::Value(x), Term::Const(c))) = binary(g, v, Binary::Div) {
            (v, scale) = (x, scale / c);
        } else if let (Some((Term::Value(p), Term::Value(q))), None) = (binary(g, v, Binary::Add), mask) {
            let product = |v: ValueId| leads_to_product(g, v) && g.shape(v) == shape;
            let (x, m) = if product(p) {
                (p, q)
            } else if product(q) {
                (q, p)
            } else {
                return None;
            };
            // A scale outside the sum would apply to the mask too.
            if scale != 1.0 || broadcast(&[g.shape(m), shape]).as_deref() != Ok(shape) {
                return None;
            }
            (v, mask) = (x, Some(m));
        } else {
            return None;
        }
    }
}

/// A value as a multiple of another.
fn scaled(g: &Graph, v: ValueId) -> (ValueId, f64) {
    match binary(g, v, Binary::Mul) {
        Some((Term::Value(x), Term::Const(c))) if g.shape(x) == g.shape(v) => (x, c),
        _ => (v, 1.0),
    }
}

fn leads_to_product(g: &Graph, v: ValueId) -> bool {
    let through = |pair: Option<(Term, Term)>| matches!(pair, Some((Term::Value(x), Term::Const(_))) if leads_to_product(g, x));
    matches!(g.op(v), Some((Op::Contract { epilogue: None, .. }, _)))
        || through(binary(g, v, Binary::Mul))
        || through(binary(g, v, Binary::Div))
}
