//! Where results are stored, decided from their readers: a result that is only read transposed or concatenated is
//! written in that form at once.

use super::steps::Buffer;
use crate::graph::{Graph, Node, Op, ValueId, invert};
use wpk_plan::View;

/// For each value, the buffer it is stored in and how it lies there, where its readers decide that.
pub struct Placement {
    /// By value.
    pub places: Vec<Option<(Buffer, View)>>,
}

/// What a kernel accepts of an operand's strides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// Any.
    Any,
    /// Neighbours of the last dimension next to each other.
    Rows,
    /// Row-major without gaps.
    Dense,
}

/// What an operation accepts of input `i`.
pub fn accepts(op: &Op, i: usize) -> Accepts {
    match op {
        Op::Map { .. }
        | Op::Transpose(_)
        | Op::Slice { .. }
        | Op::Expand(_)
        | Op::Concat(_)
        | Op::Pad { .. }
        | Op::Conv(_)
        | Op::Contract { .. }
        | Op::Reduce { .. } => Accepts::Any,
        Op::Attention { .. } if i == 0 => Accepts::Rows,
        Op::Attention { .. } => Accepts::Any,
        Op::Normalize { .. } if i > 0 => Accepts::Any,
        Op::Softmax { .. } | Op::Normalize { .. } | Op::Window { .. } => Accepts::Rows,
        _ => Accepts::Dense,
    }
}

/// Whether an operation can write its result to any view with neighbours of the last dimension together.
fn strided_result(op: &Op) -> bool {
    matches!(op, Op::Map { .. } | Op::Conv(_) | Op::Contract { .. } | Op::Attention { .. } | Op::Window { indices: false, .. })
}

impl Placement {
    /// Decides for the whole graph, readers first.
    pub fn new(graph: &Graph, fresh: &mut impl FnMut(ValueId) -> Buffer) -> Self {
        let uses = graph.uses();
        let mut placement = Self { places: vec![None; graph.values.len()] };
        for (o, (_, id)) in graph.outputs.iter().enumerate() {
            let mut v = *id;
            while let Some((Op::Reshape(_), inputs)) = graph.op(v).filter(|_| uses[v.0 as usize] == 1) {
                v = inputs[0];
            }
            let own = v == *id || uses[v.0 as usize] == 1;
            if own && graph.node(v).is_some_and(|n| !n.op.is_view()) && placement.places[v.0 as usize].is_none() {
                placement.places[v.0 as usize] = Some((Buffer::Output(o), View::dense(graph.shape(v))));
            }
        }
        for node in graph.nodes.iter().rev() {
            let free = |v: ValueId| uses[v.0 as usize] == 1 && graph.node(v).is_some_and(|n| n.outputs.len() == 1 && strided_result(&n.op));
            match &node.op {
                Op::Transpose(perm) if free(node.inputs[0]) && needs_dense(graph, node) => {
                    let (buffer, view) = placement.of(graph, node.outputs[0], fresh);
                    placement.places[node.inputs[0].0 as usize] = Some((buffer, view.transpose(&invert(perm))));
                }
                Op::Concat(axis) => {
                    let (buffer, view) = placement.of(graph, node.outputs[0], fresh);
                    let mut start = vec![0; view.shape.len()];
                    for &v in &node.inputs {
                        let shape = graph.shape(v);
                        if free(v) && view.strides.last() == Some(&1) {
                            placement.places[v.0 as usize] = Some((buffer, view.slice(&start, &vec![1; start.len()], shape)));
                        }
                        start[*axis] += shape[*axis];
                    }
                }
                _ => {}
            }
        }
        placement
    }

    /// Where a value is stored, a dense buffer of its own if nothing else was decided.
    pub fn of(&mut self, graph: &Graph, v: ValueId, fresh: &mut impl FnMut(ValueId) -> Buffer) -> (Buffer, View) {
        self.places[v.0 as usize].get_or_insert_with(|| (fresh(v), View::dense(graph.shape(v)))).clone()
    }
}

/// Whether some reader of a transpose would have it copied.
fn needs_dense(graph: &Graph, transpose: &Node) -> bool {
    let v = transpose.outputs[0];
    let Op::Transpose(perm) = &transpose.op else { return false };
    let view = View::dense(graph.shape(transpose.inputs[0])).transpose(perm);
    let rows = view.strides.last() == Some(&1);
    let read = graph.nodes.iter().flat_map(|n| n.inputs.iter().enumerate().filter(|(_, i)| **i == v).map(move |(i, _)| (n, i)));
    let copied = read.into_iter().any(|(n, i)| match (&n.op, accepts(&n.op, i)) {
        (Op::Reshape(to), _) => view.reshape(to).is_none(),
        (_, Accepts::Dense) => true,
        (_, Accepts::Rows) => !rows,
        _ => false,
    });
    copied || graph.outputs.iter().any(|o| o.1 == v)
}
