//! From the graph to the plan: one problem per step, operands as views, memory by lifetime.

mod chains;
pub mod cost;
mod gpu;
mod memory;
mod phases;
mod placement;
mod problem;
mod steps;
mod weights;

pub use gpu::{Modules, lower as lower_gpu};
pub use problem::problem;
pub use weights::{Blob, Weights};

use crate::graph::Graph;
use crate::model::Precision;
pub use steps::Target;
use wpk_plan::problem::Problem;
use wpk_plan::{Block, Body, Plan, Port, Role, Step, WeightLayout};

/// The CPU plan of an optimized graph; its weights join those of other buckets. `precision` is that of
/// constant weights.
pub fn lower(graph: &Graph, weights: &mut Weights, precision: Precision) -> Plan {
    let mut steps = steps::lower(graph, weights, Target::Cpu(precision));
    chains::join(&mut steps);
    let (steps, arena, zeroed) = memory::assign(steps);
    plan(graph, "cpu", steps, (arena, zeroed))
}

/// The problems of an optimized graph on a GPU, with the layouts of their weights, in order.
pub fn problems(graph: &Graph, weights: &mut Weights, tf32: bool) -> Vec<(Problem, WeightLayout)> {
    steps::lower(graph, weights, Target::Gpu { tf32, keep_fp32: &[] }).steps.into_iter().map(|d| (d.problem, d.layout)).collect()
}

fn plan(graph: &Graph, target: &str, steps: Vec<Step>, (arena, zeroed): (usize, usize)) -> Plan {
    let port = |(name, id): &(String, crate::graph::ValueId)| Port {
        name: name.clone(),
        dtype: graph.dtype(*id),
        shape: graph.shape(*id).to_vec(),
        bounds: vec![],
        role: Role::Own,
    };
    Plan {
        target: target.to_owned(),
        inputs: graph.inputs.iter().map(port).collect(),
        outputs: graph.outputs.iter().map(port).collect(),
        arena,
        zeroed,
        body: Body { blocks: vec![Block::Run(steps)] },
    }
}
