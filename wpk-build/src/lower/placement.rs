//! Where results are stored, decided from their readers: a result that is only read transposed or concatenated is
//! written in that form at once, and pixels of a power of two of channels lie further apart on CPUs around depthwise convolutions.

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
    pub fn new(graph: &Graph, on_cpu: bool, fresh: &mut impl FnMut(usize) -> Buffer) -> Self {
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
        for v in (0..graph.values.len() as u32).map(ValueId).filter(|_| on_cpu) {
            let place = &mut placement.places[v.0 as usize];
            if let Some(view) = place.is_none().then(|| spread(graph, v)).flatten() {
                *place = Some((fresh(view.span().map_or(0, |s| s.1) * graph.dtype(v).bytes()), view));
            }
        }
        placement
    }

    /// Where a value is stored, a dense buffer of its own if nothing else was decided.
    pub fn of(&mut self, graph: &Graph, v: ValueId, fresh: &mut impl FnMut(usize) -> Buffer) -> (Buffer, View) {
        self.places[v.0 as usize].get_or_insert_with(|| (fresh(graph.bytes(v)), View::dense(graph.shape(v)))).clone()
    }
}

/// Bytes that caches of the first level find in few of their sets if they lie so far apart, a quarter or more of them.
const SETS: usize = 2048;
/// Bytes that keep neighbours apart: a line.
const LINE: usize = 64;

/// Pixels a line further apart, where a depthwise convolution reads or writes them and others only multiply them: its windows would take turns
/// in the same few sets.
fn spread(graph: &Graph, v: ValueId) -> Option<View> {
    let depthwise = |op: &Op| matches!(op, Op::Conv(c) if c.channels_last && c.groups > 1);
    let [.., channels] = *graph.shape(v) else { return None };
    let size = graph.dtype(v).bytes();
    let products = |op: &Op| matches!(op, Op::Conv(_) | Op::Contract { .. });
    let made = &graph.node(v).filter(|n| products(&n.op))?.op;
    let read: Vec<&Node> = graph.nodes.iter().filter(|n| n.inputs.contains(&v)).collect();
    let multiplied = read.iter().all(|n| products(&n.op) && !n.inputs[1..].contains(&v));
    if !(channels * size).is_multiple_of(SETS) || !multiplied || !(depthwise(made) || read.iter().any(|n| depthwise(&n.op))) {
        return None;
    }
    let mut apart = graph.shape(v).to_vec();
    *apart.last_mut()? += LINE / size;
    Some(View { shape: graph.shape(v).to_vec(), ..View::dense(&apart) })
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
