//! Alternatives for the whole graph: where speed is the question, passes propose and the plan chooses.
//!
//! A cover is the pipeline without some of its passes. Each is lowered, and the cheapest by [`crate::lower::cost`] becomes
//! the plan; `cargo wpk explain` prints them all.

use crate::diag::Diags;
use crate::graph::Graph;
use crate::lower::{self, Weights, cost};
use crate::passes::{self, Optimized};

/// A way to cover the graph with problems.
struct Cover {
    name: &'static str,
    /// Passes left out.
    without: &'static [&'static str],
}

const COVERS: &[Cover] = &[
    Cover { name: "fused, channels last", without: &[] },
    Cover { name: "fused, channels second", without: &["channels_last"] },
    Cover { name: "attention in parts", without: &["attention"] },
    Cover { name: "bias, residual and activation beside the product", without: &["epilogue"] },
];

/// A cover with its estimated time.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What is particular to it.
    pub name: &'static str,
    /// Estimated nanoseconds.
    pub cost: f64,
    /// Whether the plan is made of it.
    pub chosen: bool,
}

/// The cheapest cover of a graph, and all that were compared.
pub fn choose(graph: &Graph) -> Result<(Optimized, Vec<Choice>), Diags> {
    let mut best: Option<(Optimized, usize)> = None;
    let mut choices: Vec<Choice> = vec![];
    let mut known: Vec<String> = vec![];
    for cover in COVERS {
        let optimized = passes::optimize(graph, cover.without, |_, _| {})?;
        // A pass that found nothing to do makes no alternative.
        let text = optimized.graph.to_string();
        if known.contains(&text) {
            continue;
        }
        known.push(text);
        let cost = cost::plan(&lower::lower(&optimized.graph, &mut Weights::untold()));
        if best.as_ref().is_none_or(|b| cost < choices[b.1].cost) {
            best = Some((optimized, choices.len()));
        }
        choices.push(Choice { name: cover.name, cost, chosen: false });
    }
    match best {
        Some((optimized, i)) => {
            choices[i].chosen = true;
            Ok((optimized, choices))
        }
        // There is always the first cover.
        None => passes::optimize(graph, &[], |_, _| {}).map(|o| (o, choices)),
    }
}
