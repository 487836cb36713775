//! The first part of a batch image by image, on the CPU: what lies between its steps then stays in the caches, where that of all images would
//! not. It ends where results get small, or not much larger than weights are for every image, and later steps read their weights once for all images.

use crate::graph::{Builder, Conv, Def, Graph, Node, Op, ValueId};
use std::collections::BTreeMap;

/// Bytes of an operand or a result, for all images, that is large.
const LARGE: usize = 4 << 20;
/// Most nodes that are made of the first part's.
const NODES: usize = 2048;

/// The graph with its first part repeated for every image; `None` where there is one image or nothing large, or images are mixed at once.
pub fn by_image(graph: &Graph) -> Result<Option<Graph>, String> {
    let Some(n) = graph.inputs.iter().find_map(|(_, v)| graph.shape(*v).first().copied()).filter(|&n| n > 1) else { return Ok(None) };
    let mut of_images: Vec<bool> = graph.values.iter().map(|v| matches!(v.def, Def::Input(_)) && v.shape.first() == Some(&n)).collect();
    let mut end = None;
    for (i, node) in graph.nodes.iter().enumerate() {
        if !apart(graph, node, &of_images, n) {
            break;
        }
        of_images[node.outputs[0].0 as usize] = true;
        let bytes = |v: &ValueId| graph.bytes(*v);
        let (own, shared): (Vec<_>, Vec<_>) = node.inputs.iter().chain(&node.outputs).partition(|v| of_images[v.0 as usize]);
        // What all images share is read once for each of them.
        let again: usize = shared.into_iter().map(bytes).sum::<usize>() * n;
        if own.iter().any(|v| bytes(v) >= LARGE) && 2 * again <= own.into_iter().map(bytes).sum() {
            end = Some(i + 1);
        }
    }
    match end {
        Some(end) if end * n <= NODES => rebuilt(graph, end, &of_images, n).map(Some),
        _ => Ok(None),
    }
}

/// Whether every image of the result comes of the same image of operands, and of what all share.
fn apart(g: &Graph, node: &Node, of_images: &[bool], n: usize) -> bool {
    let batch = |v: ValueId| of_images[v.0 as usize];
    // What is broadcast to the result must have its rank where it has images.
    let beside = |v: &ValueId, rank: usize| {
        let shape = g.shape(*v);
        if batch(*v) { shape.len() == rank } else { shape.len() < rank || shape[0] == 1 }
    };
    let (first, rank) = (node.inputs.first().copied(), g.shape(node.outputs[0]).len());
    let Some(x) = first.filter(|_| node.outputs.len() == 1 && rank > 1) else { return false };
    match &node.op {
        Op::Map { function, .. } => {
            !function.uses_index() && node.inputs.iter().any(|&v| batch(v)) && node.inputs.iter().all(|v| beside(v, rank))
        }
        Op::Conv(Conv { .. }) => batch(x) && !batch(node.inputs[1]) && node.inputs[2..].iter().all(|v| beside(v, rank)),
        Op::Contract { a, b, out, .. } => {
            let own = a.first() == out.first() && !b.contains(&out[0]) && !batch(node.inputs[1]);
            batch(x) && own && node.inputs[2..].iter().all(|v| beside(v, rank))
        }
        Op::Transpose(perm) => batch(x) && perm.first() == Some(&0),
        Op::Reshape(to) => batch(x) && to[0] == n,
        Op::Slice { start, step, count } => batch(x) && start[0] == 0 && step[0] == 1 && count[0] == n,
        Op::Pad { before, after, .. } => batch(x) && before[0] == 0 && after[0] == 0,
        Op::Reduce { axes, .. } => batch(x) && !axes[0],
        Op::Window { dims, indices: false, .. } => batch(x) && dims[0].size == 1 && dims[0].stride == 1 && dims[0].pad == 0,
        Op::Concat(axis) => *axis > 0 && node.inputs.iter().all(|&v| batch(v)),
        _ => false,
    }
}

/// The operation on one image.
fn alone(op: &Op) -> Op {
    let mut op = op.clone();
    match &mut op {
        Op::Map { shape, .. } | Op::Reshape(shape) | Op::Slice { count: shape, .. } | Op::Window { out: shape, .. } => shape[0] = 1,
        _ => {}
    }
    op
}

fn rebuilt(graph: &Graph, end: usize, of_images: &[bool], n: usize) -> Result<Graph, String> {
    let mut b = Builder::default();
    let mut shared: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for (name, v) in &graph.inputs {
        shared.insert(*v, b.input(name, graph.dtype(*v), graph.shape(*v)));
    }
    let constant = |b: &mut Builder, v: ValueId| graph.literal(v).map(|l| b.constant(l.clone()));
    let mut images: BTreeMap<ValueId, Vec<ValueId>> = BTreeMap::new();
    for i in 0..n {
        for node in &graph.nodes[..end] {
            b.origin = node.origin.clone();
            let mut operands = vec![];
            for &v in &node.inputs {
                operands.push(match (images.get(&v).and_then(|all| all.get(i)), shared.get(&v)) {
                    (Some(&own), _) => own,
                    (None, Some(&whole)) if of_images[v.0 as usize] => {
                        let own = b.range(whole, 0, i, 1)?;
                        images.entry(v).or_default().push(own);
                        own
                    }
                    (None, Some(&whole)) => whole,
                    (None, None) => constant(&mut b, v).ok_or("an operand is not defined")?,
                });
            }
            let result = b.one(alone(&node.op), &operands)?;
            images.entry(node.outputs[0]).or_default().push(result);
        }
    }
    let get = |b: &mut Builder, shared: &mut BTreeMap<ValueId, ValueId>, v: ValueId| -> Result<ValueId, String> {
        if let Some(&known) = shared.get(&v) {
            return Ok(known);
        }
        let new = match images.get(&v) {
            Some(all) => b.one(Op::Concat(0), all)?,
            None => constant(b, v).ok_or("an operand is not defined")?,
        };
        shared.insert(v, new);
        Ok(new)
    };
    for node in &graph.nodes[end..] {
        let operands = node.inputs.iter().map(|&v| get(&mut b, &mut shared, v)).collect::<Result<Vec<_>, _>>()?;
        b.origin = node.origin.clone();
        let results = b.add(node.op.clone(), &operands)?;
        shared.extend(node.outputs.iter().copied().zip(results));
    }
    for (name, v) in &graph.outputs {
        let new = get(&mut b, &mut shared, *v)?;
        b.graph.outputs.push((name.clone(), new));
    }
    b.graph.sweep();
    Ok(b.graph)
}
