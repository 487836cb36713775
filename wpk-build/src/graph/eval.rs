//! Running graphs through the naive evaluator: constant folding, and the float64 reference.

use super::{Def, Graph, Literal, Node, Op};
use crate::lower::problem;
use wpk_kernels::{Rounding, Tensor, eval};
use wpk_plan::DType;
use wpk_plan::problem::Operand;

type Type = (DType, Vec<usize>);

fn dense(types: &[Type]) -> Vec<Operand> {
    types.iter().map(|(t, s)| Operand::dense(*t, s)).collect()
}

/// Scalar operations that an operation takes.
pub(super) fn operations(op: &Op, inputs: &[Type], outputs: &[Type]) -> u64 {
    problem(op, &dense(inputs), &dense(outputs)).map_or(0, |p| p.operations())
}

fn apply(op: &Op, types: &[Type], inputs: &[&Tensor], outputs: &[Type], rounding: Rounding) -> Vec<Tensor> {
    if let Op::BitCast(to) = op {
        return vec![Tensor::from_bytes(*to, &inputs[0].to_bytes())];
    }
    match problem(op, &dense(types), &dense(outputs)) {
        Some(problem) => eval(&problem, inputs, rounding),
        None => vec![inputs[0].clone()],
    }
}

/// The constant results of an operation on constants.
pub(super) fn fold(op: &Op, inputs: &[&Literal], outputs: &[Type]) -> Vec<Literal> {
    let types: Vec<Type> = inputs.iter().map(|l| (l.dtype, l.shape.clone())).collect();
    let tensors: Vec<Tensor> = inputs.iter().map(|l| l.tensor()).collect();
    let results = apply(op, &types, &tensors.iter().collect::<Vec<_>>(), outputs, Rounding::ToType);
    results.iter().zip(outputs).map(|(t, (_, shape))| Literal::new(t, shape)).collect()
}

/// Evaluates a graph node by node, keeping every value while it is needed.
pub struct Evaluator<'a> {
    graph: &'a Graph,
    values: Vec<Option<Tensor>>,
    remaining: Vec<usize>,
    rounding: Rounding,
}

impl<'a> Evaluator<'a> {
    /// Starts with the caller's tensors.
    pub fn new(graph: &'a Graph, inputs: &[Tensor], rounding: Rounding) -> Self {
        let mut values: Vec<Option<Tensor>> = vec![None; graph.values.len()];
        for ((_, id), tensor) in graph.inputs.iter().zip(inputs) {
            values[id.0 as usize] = Some(tensor.clone());
        }
        Self { graph, values, remaining: graph.uses(), rounding }
    }

    /// Runs one node of the graph and returns its results.
    pub fn step(&mut self, node: &Node) -> Vec<Tensor> {
        for &i in &node.inputs {
            if let (None, Def::Const(literal)) = (&self.values[i.0 as usize], &self.graph.value(i).def) {
                self.values[i.0 as usize] = Some(literal.tensor());
            }
        }
        let types = |ids: &[super::ValueId]| ids.iter().map(|&i| (self.graph.dtype(i), self.graph.shape(i).to_vec())).collect::<Vec<_>>();
        let inputs: Option<Vec<&Tensor>> = node.inputs.iter().map(|i| self.values[i.0 as usize].as_ref()).collect();
        let Some(inputs) = inputs else { return vec![] };
        let results = apply(&node.op, &types(&node.inputs), &inputs, &types(&node.outputs), self.rounding);
        for i in &node.inputs {
            let left = &mut self.remaining[i.0 as usize];
            *left -= 1;
            if *left == 0 {
                self.values[i.0 as usize] = None;
            }
        }
        for (o, t) in node.outputs.iter().zip(&results) {
            self.values[o.0 as usize] = Some(t.clone());
        }
        results
    }

    /// The graph's results, after every node has run.
    pub fn outputs(&self) -> Vec<Tensor> {
        let get = |id: super::ValueId| match &self.graph.value(id).def {
            Def::Const(literal) => Some(literal.tensor()),
            _ => self.values[id.0 as usize].clone(),
        };
        self.graph.outputs.iter().filter_map(|(_, id)| get(*id)).collect()
    }
}

/// The results of a whole graph.
pub fn evaluate(graph: &Graph, inputs: &[Tensor], rounding: Rounding) -> Vec<Tensor> {
    let mut evaluator = Evaluator::new(graph, inputs, rounding);
    for node in &graph.nodes {
        evaluator.step(node);
    }
    evaluator.outputs()
}
