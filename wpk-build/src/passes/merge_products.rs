//! Products of one tensor by several constant factors become one product by all of them side by side (queries, keys and values of
//! attention); what was a result is a range of the merged one.

use super::rewrite::Rewrite;
use crate::graph::{Graph, Node, Op, ValueId};

pub(super) fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    let Op::Contract { b, out, .. } = &node.op else { return Ok(None) };
    let Some(label) = mergeable(cx.old, node) else { return Ok(None) };
    let siblings: Vec<Node> = cx.old.nodes.iter().filter(|n| alike(cx.old, node, n)).cloned().collect();
    let Some(own) = siblings.iter().position(|n| n.outputs == node.outputs).filter(|_| siblings.len() > 1) else { return Ok(None) };
    let (in_factor, in_result) = (position(b, label), position(out, label));
    // Every sibling builds the same merged node, which the builder shares.
    let mut operands = vec![inputs[0]];
    for i in 1..inputs.len() {
        let parts: Vec<ValueId> = siblings.iter().filter_map(|s| cx.old.literal(s.inputs[i]).cloned()).map(|l| cx.b.constant(l)).collect();
        let axis = if i == 1 { in_factor } else { 0 };
        operands.push(cx.b.one(Op::Concat(axis), &parts)?);
    }
    if operands[1..].iter().any(|&v| cx.b.graph.literal(v).is_none()) {
        return Ok(None);
    }
    cx.b.origin = siblings.iter().fold(crate::diag::Origin::default(), |o, s| o.join(&s.origin));
    let merged = cx.b.one(node.op.clone(), &operands)?;
    let width = |s: &Node| cx.old.shape(s.outputs[0])[in_result];
    let start = siblings[..own].iter().map(width).sum();
    cx.b.range(merged, in_result, start, width(node)).map(|y| Some(vec![y]))
}

fn position(labels: &[u8], label: u8) -> usize {
    labels.iter().position(|&l| l == label).unwrap_or(0)
}

/// The label of a product's columns, where it has one such and everything but the first factor is constant: the second factor, and
/// vectors along the columns.
fn mergeable(g: &Graph, node: &Node) -> Option<u8> {
    let Op::Contract { a, b, out, .. } = &node.op else { return None };
    let mut columns = b.iter().filter(|l| out.contains(l) && !a.contains(l));
    let label = *columns.next().filter(|_| columns.next().is_none())?;
    let last = out.last() == Some(&label);
    let n = *g.shape(node.outputs[0]).last()?;
    let vectors = node.inputs[2..].iter().all(|&v| g.shape(v) == [n] && g.literal(v).is_some());
    (last && vectors && node.inputs.len() >= 2 && g.literal(node.inputs[1]).is_some() && g.literal(node.inputs[0]).is_none())
        .then_some(label)
}

/// Whether two products differ in their constants alone, and in how many columns those have.
fn alike(g: &Graph, node: &Node, other: &Node) -> bool {
    let same = |v: &ValueId, w: &ValueId| g.dtype(*v) == g.dtype(*w) && g.shape(*v).len() == g.shape(*w).len();
    other.op == node.op
        && other.inputs.first() == node.inputs.first()
        && other.inputs.len() == node.inputs.len()
        && other.inputs.iter().zip(&node.inputs).all(|(v, w)| same(v, w))
        && mergeable(g, other) == mergeable(g, node)
        && !g.outputs.iter().any(|o| other.outputs.contains(&o.1))
}
