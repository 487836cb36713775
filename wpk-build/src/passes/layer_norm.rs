//! Normalization spelled out as means, differences and roots becomes one node; scale and bias after it enter it.

use super::pattern::{Term, binary, mean_of_rows, unary};
use super::rewrite::Rewrite;
use crate::graph::{Graph, Node, Op, ValueId};
use wpk_plan::Binary;
use wpk_plan::Unary;
use wpk_plan::problem::NormKind;

pub(super) fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    if !matches!(node.op, Op::Map { .. }) {
        return Ok(None);
    }
    // The node as the builder makes it, so that patterns see its simplified form.
    let outputs = cx.b.add(node.op.clone(), inputs)?;
    let g = &cx.b.graph;
    if let Some((x, kind, epsilon)) = normalized(g, outputs[0]) {
        cx.merge_origin(node, x);
        let op = Op::Normalize { kind, epsilon, residual: false, scale: false, bias: false };
        return cx.b.add(op, &[x]).map(Some);
    }
    if let Some((op, inputs)) = affine(g, outputs[0]) {
        cx.merge_origin(node, inputs[0]);
        return cx.b.add(op, &inputs).map(Some);
    }
    Ok(Some(outputs))
}

/// `(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon)`, or the same without means.
fn normalized(g: &Graph, v: ValueId) -> Option<(ValueId, NormKind, f64)> {
    let (top, root) = match binary(g, v, Binary::Div) {
        Some((Term::Value(x), Term::Value(s))) => (x, s),
        _ => {
            let (Term::Value(p), Term::Value(q)) = binary(g, v, Binary::Mul)? else { return None };
            [(p, q), (q, p)].into_iter().find_map(|(x, r)| Some((x, unary(g, r, Unary::Recip)?)))?
        }
    };
    let (Term::Value(variance), Term::Const(epsilon)) = binary(g, unary(g, root, Unary::Sqrt)?, Binary::Add)? else { return None };
    let (Term::Value(p), Term::Value(q)) = binary(g, mean_of_rows(g, variance)?, Binary::Mul)? else { return None };
    if p != q || !g.dtype(top).is_float() {
        return None;
    }
    // The exporter may compute the difference twice.
    let difference = |d: ValueId| match binary(g, d, Binary::Sub) {
        Some((Term::Value(x), Term::Value(m))) if mean_of_rows(g, m) == Some(x) => Some(x),
        _ => None,
    };
    match (difference(top), difference(p)) {
        (Some(x), Some(y)) if x == y => Some((x, NormKind::Layer, epsilon)),
        _ if p == top => Some((top, NormKind::Rms, epsilon)),
        _ => None,
    }
}

/// A vector along rows that scales or moves a normalization.
fn affine(g: &Graph, v: ValueId) -> Option<(Op, Vec<ValueId>)> {
    let (f, pair) = match (binary(g, v, Binary::Mul), binary(g, v, Binary::Add)) {
        (Some(pair), _) => (Binary::Mul, pair),
        (_, Some(pair)) => (Binary::Add, pair),
        _ => return None,
    };
    let (Term::Value(p), Term::Value(q)) = pair else { return None };
    [(p, q), (q, p)].into_iter().find_map(|(x, vector)| {
        let (Op::Normalize { kind, epsilon, residual: false, scale, bias: false }, inputs) = g.op(x)? else { return None };
        let row = g.shape(x).last()?;
        let fits = g.shape(vector).last() == Some(row) && g.shape(vector).iter().product::<usize>() == *row;
        let wanted = fits && (f == Binary::Add || !*scale);
        let op =
            Op::Normalize { kind: *kind, epsilon: *epsilon, residual: false, scale: *scale || f == Binary::Mul, bias: f == Binary::Add };
        wanted.then(|| (op, [inputs, &[vector]].concat()))
    })
}
