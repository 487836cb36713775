//! The graph: values in single-assignment form with static shapes, and nodes that compute them.
//!
//! Nodes hold core operations: few and general. ONNX operators become them at import (`crate::ops`), so that passes,
//! lowering and evaluation know some twenty operations instead of two hundred.

mod bounds;
mod builder;
mod eval;
mod fold;
pub mod linear;
mod literal;
pub mod moved;
mod op;
mod print;
mod shape;
mod sizes;
mod verify;

pub use bounds::Bound;
pub use builder::{Builder, Outcome, invert};
pub use eval::{Evaluator, evaluate};
pub use fold::view;
pub use linear::Linear;
pub use literal::Literal;
pub use op::{Conv, Op};
pub use shape::{broadcast, sum_of};

use crate::diag::Origin;
use std::collections::BTreeMap;
use wpk_plan::DType;

/// Names a value of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// A tensor: its type and where it comes from.
#[derive(Debug, Clone)]
pub struct Value {
    /// The element type.
    pub dtype: DType,
    /// The extents.
    pub shape: Vec<usize>,
    /// What defines it.
    pub def: Def,
}

/// What defines a value.
#[derive(Debug, Clone)]
pub enum Def {
    /// The caller, by input number.
    Input(usize),
    /// A constant.
    Const(Literal),
    /// A node, by its number and the number of the output.
    Node(usize, usize),
    /// A list of values, which only exists while a model is imported.
    Sequence(Vec<ValueId>),
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// What it defines.
    pub outputs: Vec<ValueId>,
    /// The ONNX nodes behind it.
    pub origin: Origin,
}

/// By input, and by output, the bounds of its dimensions; and by input the dimension that it is the size of.
#[derive(Debug, Clone, Default)]
pub struct PortBounds {
    /// Of inputs.
    pub inputs: Vec<Vec<wpk_plan::Bound>>,
    /// Of outputs.
    pub outputs: Vec<Vec<wpk_plan::Bound>>,
    /// Inputs behind those of the model: the actual sizes of symbolic dimensions, by their numbers.
    pub sizes: Vec<(usize, u32)>,
    /// How many outputs are the model's; counts follow.
    pub results: usize,
    /// Values whose functions may hold extents of bounded dimensions.
    pub masks: Vec<ValueId>,
    /// Values with bounded dimensions.
    pub bounded: BTreeMap<ValueId, Vec<usize>>,
}

impl PortBounds {
    /// A plan of the graph, whose ports tell them.
    pub fn of(self, mut plan: wpk_plan::Plan) -> wpk_plan::Plan {
        for (ports, bounds) in [(&mut plan.inputs, self.inputs), (&mut plan.outputs, self.outputs)] {
            ports.iter_mut().zip(bounds).for_each(|(port, bounds)| port.bounds = bounds);
        }
        for (input, dim) in self.sizes {
            plan.inputs[input].role = wpk_plan::Role::Size(dim);
        }
        plan.outputs.iter_mut().skip(self.results).for_each(|p| p.role = wpk_plan::Role::Count);
        plan
    }
}

/// A model. Nodes are in topological order.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Every value.
    pub values: Vec<Value>,
    /// Every node.
    pub nodes: Vec<Node>,
    /// The caller's tensors with their names.
    pub inputs: Vec<(String, ValueId)>,
    /// The results with their names.
    pub outputs: Vec<(String, ValueId)>,
    /// Of an imported graph, extents of inputs and outputs that are known only at run time.
    pub bounds: PortBounds,
}

impl Graph {
    /// A value by its name.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// The extents of a value.
    pub fn shape(&self, id: ValueId) -> &[usize] {
        &self.value(id).shape
    }

    /// The element type of a value.
    pub fn dtype(&self, id: ValueId) -> DType {
        self.value(id).dtype
    }

    /// The bytes of a value, without gaps.
    pub fn bytes(&self, id: ValueId) -> usize {
        self.shape(id).iter().product::<usize>() * self.dtype(id).bytes()
    }

    /// The constant that a value is.
    pub fn literal(&self, id: ValueId) -> Option<&Literal> {
        match &self.value(id).def {
            Def::Const(literal) => Some(literal),
            _ => None,
        }
    }

    /// The node that defines a value.
    pub fn node(&self, id: ValueId) -> Option<&Node> {
        match self.value(id).def {
            Def::Node(node, _) => Some(&self.nodes[node]),
            _ => None,
        }
    }

    /// The operation behind a value, where it is the only output.
    pub fn op(&self, id: ValueId) -> Option<(&Op, &[ValueId])> {
        let node = self.node(id)?;
        (node.outputs.len() == 1).then_some((&node.op, node.inputs.as_slice()))
    }

    /// Whether each value is needed for the results.
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.values.len()];
        self.outputs.iter().for_each(|o| live[o.1.0 as usize] = true);
        for node in self.nodes.iter().rev() {
            if node.outputs.iter().any(|o| live[o.0 as usize]) {
                node.inputs.iter().for_each(|i| live[i.0 as usize] = true);
            }
        }
        live
    }

    /// Drops nodes that no result needs.
    pub fn sweep(&mut self) {
        let live = self.live();
        self.nodes.retain(|n| n.outputs.iter().any(|o| live[o.0 as usize]));
        for (n, node) in self.nodes.iter().enumerate() {
            for (i, o) in node.outputs.iter().enumerate() {
                self.values[o.0 as usize].def = Def::Node(n, i);
            }
        }
    }

    /// How often each value is read, results included.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.values.len()];
        let reads = self.nodes.iter().flat_map(|n| &n.inputs).chain(self.outputs.iter().map(|o| &o.1));
        reads.for_each(|v| uses[v.0 as usize] += 1);
        uses
    }
}
