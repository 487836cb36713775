//! Rebuilding a graph node by node.

use crate::diag::Origin;
use crate::graph::{Builder, Def, Graph, Node, ValueId};
use std::collections::BTreeMap;
use std::fmt;

/// What a pass does with a node: other values for its outputs, or `None` to keep it.
pub type Rule = fn(&mut Rewrite<'_>, &Node, &[ValueId]) -> Result<Option<Vec<ValueId>>, String>;

/// Why two nodes that match were not fused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFused {
    /// The intermediate result is read elsewhere too, and would be computed twice.
    Shared,
    /// The shapes differ, so that the smaller computation would be repeated.
    ShapeDiffers,
    /// The function reads coordinates, which mean something else in the other node.
    ReadsCoordinates,
    /// The fused function would be too long.
    TooLong,
    /// A factor is computed at run time.
    NotConstant,
}

impl fmt::Display for NotFused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "its input is read elsewhere too",
            Self::ShapeDiffers => "shapes differ",
            Self::ReadsCoordinates => "it reads coordinates",
            Self::TooLong => "the fused function would be too long",
            Self::NotConstant => "a factor is computed at run time",
        })
    }
}

/// A fusion that was considered and refused.
#[derive(Debug, Clone)]
pub struct Remark {
    /// The node that would have been absorbed.
    pub origin: Origin,
    /// The node that would have absorbed it.
    pub into: Origin,
    /// Why not.
    pub reason: NotFused,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was not fused into {}: {}", self.origin, self.into, self.reason)
    }
}

/// A graph being rebuilt.
pub struct Rewrite<'a> {
    /// The new graph so far.
    pub b: Builder,
    /// Refused fusions.
    pub remarks: &'a mut Vec<Remark>,
    /// The graph before.
    pub old: &'a Graph,
    uses: BTreeMap<ValueId, usize>,
    /// Old values that are the model's results and nothing else.
    results: Vec<ValueId>,
    /// Names of ONNX nodes, `*` for any text, that keep single precision.
    keep_fp32: &'a [String],
}

impl Rewrite<'_> {
    /// Whether what a node computes is a result of the model and read by nothing else.
    pub fn is_result(&self, node: &Node) -> bool {
        node.outputs.iter().any(|o| self.results.contains(o))
    }

    /// Whether the user wants a node in single precision.
    pub fn keeps_fp32(&self, origin: &Origin) -> bool {
        origin.matches(self.keep_fp32)
    }

    /// Whether a new value is read at most once.
    pub fn single(&self, v: ValueId) -> bool {
        self.uses.get(&v).copied().unwrap_or(0) <= 1
    }

    /// Notes a refused fusion of the current node with the one behind a value.
    pub fn refuse(&mut self, node: &Node, into: ValueId, reason: NotFused) {
        let into = self.b.graph.node(into).map(|n| n.origin.clone()).unwrap_or_default();
        self.remarks.push(Remark { origin: node.origin.clone(), into, reason });
    }

    /// Gives what is built next the origins of the current node and of the one behind a value.
    pub fn merge_origin(&mut self, node: &Node, with: ValueId) {
        let other = self.b.graph.node(with).map(|n| n.origin.clone()).unwrap_or_default();
        self.b.origin = other.join(&node.origin);
    }
}

/// Rebuilds a graph with a rule, and drops what no result needs any more.
pub fn run<'a>(old: &'a Graph, rule: Rule, keep_fp32: &'a [String], remarks: &'a mut Vec<Remark>) -> Result<Graph, String> {
    let old_uses = old.uses();
    let results = old.outputs.iter().map(|o| o.1).filter(|o| old_uses[o.0 as usize] == 1).collect();
    let mut cx = Rewrite { b: Builder::default(), remarks, old, uses: BTreeMap::new(), results, keep_fp32 };
    let mut names = Names { old, old_uses, map: vec![None; old.values.len()] };
    for (name, id) in &old.inputs {
        let value = old.value(*id);
        let new = cx.b.input(name, value.dtype, &value.shape);
        names.define(&mut cx, *id, new);
    }
    for node in &old.nodes {
        let inputs = node.inputs.iter().map(|&i| names.get(&mut cx, i)).collect::<Result<Vec<_>, _>>()?;
        cx.b.origin = node.origin.clone();
        let outputs = match rule(&mut cx, node, &inputs)? {
            Some(outputs) => outputs,
            None => cx.b.add(node.op.clone(), &inputs)?,
        };
        for (&from, to) in node.outputs.iter().zip(outputs) {
            names.define(&mut cx, from, to);
        }
    }
    for (name, id) in &old.outputs {
        let new = names.get(&mut cx, *id)?;
        // Only casts at the border may change a result's type, and they restore it.
        let new = cx.b.cast(new, old.dtype(*id))?;
        cx.b.graph.outputs.push((name.clone(), new));
    }
    let mut graph = cx.b.graph;
    graph.sweep();
    Ok(graph)
}

/// Old values by their new ones.
struct Names<'a> {
    old: &'a Graph,
    old_uses: Vec<usize>,
    map: Vec<Option<ValueId>>,
}

impl Names<'_> {
    fn define(&mut self, cx: &mut Rewrite<'_>, from: ValueId, to: ValueId) {
        self.map[from.0 as usize] = Some(to);
        *cx.uses.entry(to).or_insert(0) += self.old_uses[from.0 as usize];
    }

    fn get(&mut self, cx: &mut Rewrite<'_>, id: ValueId) -> Result<ValueId, String> {
        if let (None, Def::Const(literal)) = (self.map[id.0 as usize], &self.old.value(id).def) {
            let new = cx.b.constant(literal.clone());
            self.define(cx, id, new);
        }
        self.map[id.0 as usize].ok_or_else(|| format!("v{} is used before it is defined", id.0))
    }
}
