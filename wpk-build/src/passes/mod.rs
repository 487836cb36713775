//! Graph passes: one file each, in the order of [`PIPELINE`].
//!
//! A pass is a rule applied to every live node while the graph is rebuilt. The builder folds constants, shares equal nodes
//! and drops what has no effect, and dead code is swept after every pass, so rules only say what is particular to them. The graph is verified after every pass.

mod attention;
mod batch_norm;
mod by_image;
mod channels_last;
mod epilogue;
mod explicit_padding;
mod fuse_maps;
mod half;
mod integer;
mod layer_norm;
mod levels;
mod merge_biases;
mod merge_products;
mod pad_channels;
mod pattern;
mod rewrite;
mod widen;

pub use rewrite::{NotFused, Remark};

use crate::Precision;
use crate::diag::{Diag, Diags};
use crate::graph::Graph;
use rewrite::{Rule, run};

/// A named pass.
pub struct Pass {
    /// Its name in dumps and messages.
    pub name: &'static str,
    rule: Rule,
}

/// The passes, in order.
pub const PIPELINE: &[Pass] = &[
    Pass { name: "widen", rule: widen::rule },
    Pass { name: "layer_norm", rule: layer_norm::rule },
    Pass { name: "batch_norm", rule: batch_norm::rule },
    Pass { name: "attention", rule: attention::rule },
    Pass { name: "integer", rule: integer::rule },
    Pass { name: "integer_on_tensor_cores", rule: integer::on_tensor_cores },
    Pass { name: "fuse_maps", rule: fuse_maps::rule },
    Pass { name: "channels_last", rule: channels_last::rule },
    Pass { name: "explicit_padding", rule: explicit_padding::rule },
    Pass { name: "fuse_maps_again", rule: fuse_maps::rule },
    Pass { name: "levels", rule: levels::rule },
    Pass { name: "epilogue", rule: epilogue::rule },
    Pass { name: "merge_biases", rule: merge_biases::rule },
];

/// Products of one tensor as one, for GPUs.
pub const MERGE_PRODUCTS: Pass = Pass { name: "merge_products", rule: merge_products::rule };

/// Channels of convolutions in pieces, for tensor cores that multiply in a precision.
pub fn pad_channels(precision: Precision) -> Option<Pass> {
    let rule = match precision {
        Precision::Fp32 => return None,
        Precision::Tf32 => pad_channels::tf32,
        Precision::Fp16 | Precision::Bf16 => pad_channels::half,
    };
    Some(Pass { name: "pad_channels", rule })
}

/// Storage and factors in binary16.
pub const F16: Pass = Pass { name: "f16", rule: half::f16 };

/// Storage and factors in bfloat16.
pub const BF16: Pass = Pass { name: "bf16", rule: half::bf16 };

/// A graph after some passes, with what was not fused and why.
#[derive(Clone)]
pub struct Optimized {
    /// The graph.
    pub graph: Graph,
    /// Fusions that were considered and refused.
    pub remarks: Vec<Remark>,
}

/// The first pass that a cover may leave out: what is before it is common to all.
const FIRST_CHOICE: &str = "attention";

/// Runs the passes that every cover has in common, which is where weights are computed.
pub fn common(graph: &Graph) -> Result<Optimized, Diags> {
    let mut optimized = Optimized { graph: graph.clone(), remarks: vec![] };
    for pass in PIPELINE.iter().take_while(|p| p.name != FIRST_CHOICE) {
        optimized.graph = apply(pass, &optimized.graph, &[], &mut optimized.remarks)?;
    }
    Ok(optimized)
}

/// Runs the other passes, without the named ones.
pub fn cover(common: &Optimized, without: &[&str]) -> Result<Optimized, Diags> {
    let mut optimized = common.clone();
    for pass in PIPELINE.iter().skip_while(|p| p.name != FIRST_CHOICE).filter(|p| !without.contains(&p.name)) {
        optimized.graph = apply(pass, &optimized.graph, &[], &mut optimized.remarks)?;
    }
    Ok(optimized)
}

/// The first part of a batch image by image, where that keeps it in the caches.
pub fn by_image(mut optimized: Optimized) -> Result<Optimized, Diags> {
    let bug = |what: String| {
        Diags::from(Diag::new(format!("images apart: {what}")).help("this is a bug in wpk: please report it with the model"))
    };
    if let Some(graph) = by_image::by_image(&optimized.graph).map_err(bug)? {
        match graph.verify() {
            faults if faults.is_empty() => optimized.graph = graph,
            faults => return Err(bug(faults.join("; "))),
        }
    }
    Ok(optimized)
}

/// Runs one pass and verifies its result; nodes whose names match `keep_fp32` stay in single precision.
pub fn apply(pass: &Pass, graph: &Graph, keep_fp32: &[String], remarks: &mut Vec<Remark>) -> Result<Graph, Diags> {
    let bug = |what: String| {
        Diags::from(Diag::new(format!("pass {}: {what}", pass.name)).help("this is a bug in wpk: please report it with the model"))
    };
    let result = run(graph, pass.rule, keep_fp32, remarks).map_err(bug)?;
    match result.verify() {
        faults if faults.is_empty() => Ok(result),
        faults => Err(bug(faults.join("; "))),
    }
}
