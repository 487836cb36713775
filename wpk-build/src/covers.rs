//! Alternatives for the whole graph: where speed is the question, passes propose and the plan chooses.
//!
//! A cover is the pipeline without some of its passes. Each is lowered, and the cheapest by [`crate::lower::cost`] becomes
//! the plan; `cargo wpk explain` prints them all.

use crate::diag::Diags;
use crate::graph::Graph;
use crate::lower::{self, Modules, Weights, cost};
use crate::model::Precision;
use crate::passes::{self, BF16, F16, MERGE_PRODUCTS, Optimized};
use wpk_plan::Plan;

/// A way to cover the graph with problems.
struct Cover {
    name: &'static str,
    /// Passes left out.
    without: &'static [&'static str],
    /// Whether it is for GPUs alone.
    gpu: bool,
}

const COVERS: &[Cover] = &[
    Cover { name: "fused, channels last", without: &[], gpu: false },
    Cover { name: "fused, channels last, products of one tensor apart", without: &["merge_products"], gpu: true },
    Cover { name: "fused, channels last, quantized products in floats", without: &["integer_on_tensor_cores"], gpu: true },
    Cover { name: "fused, channels second", without: &["channels_last"], gpu: false },
    Cover { name: "attention in parts", without: &["attention"], gpu: false },
    Cover { name: "bias, residual and activation beside the product", without: &["epilogue"], gpu: false },
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

/// The cheapest cover of a graph after the common passes, and all that were compared.
pub fn choose(common: &Optimized) -> Result<(Optimized, Vec<Choice>), Diags> {
    let mut best: Option<(Optimized, usize)> = None;
    let mut choices: Vec<Choice> = vec![];
    let mut known: Vec<String> = vec![];
    for cover in COVERS.iter().filter(|c| !c.gpu) {
        let optimized = passes::by_image(passes::cover(common, cover.without)?)?;
        // A pass that found nothing to do makes no alternative.
        let text = optimized.graph.to_string();
        if known.contains(&text) {
            continue;
        }
        known.push(text);
        let cost = cost::plan(&lower::lower(&optimized.graph, &mut Weights::untold(), crate::model::Precision::Fp32));
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
        None => passes::cover(common, &[]).map(|o| (o, choices)),
    }
}

/// What a GPU plan is made for.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The arithmetic.
    pub precision: Precision,
    /// ONNX nodes that stay in single precision.
    pub keep_fp32: &'a [String],
    /// The cover that a measurement chose, by name.
    pub cover: Option<&'a str>,
}

/// Passes that GPU plans do without: their kernels check bounds as they copy, and multiply bytes on tensor cores alone.
const GPU_WITHOUT: [&str; 2] = ["explicit_padding", "integer"];

/// A cover is left for one that is estimated to take this part of its time: estimates err by as much.
const GAIN: f64 = 0.95;

/// The cheapest GPU plan of a graph, and the covers that were compared; or the steps without a kernel in the first cover.
pub type GpuChoice = Result<(Plan, Vec<Choice>), Vec<String>>;

/// Lowers the cheapest cover for a GPU of a graph after the common passes.
///
/// # Errors
/// Where a pass fails, which is a bug.
pub fn choose_gpu(common: &Optimized, weights: &mut Weights, modules: &mut Modules<'_>, target: Target<'_>) -> Result<GpuChoice, Diags> {
    let kernels = lower::Target::Gpu { tf32: target.precision == Precision::Tf32, keep_fp32: target.keep_fp32 };
    let mut best: Option<(Graph, usize)> = None;
    let (mut choices, mut known, mut refused): (Vec<Choice>, Vec<String>, Option<Vec<String>>) = (vec![], vec![], None);
    let named = |c: &&Cover| target.cover.is_none_or(|name| name == c.name);
    let all: Vec<&Cover> = COVERS.iter().filter(named).collect();
    // A name of another version chooses nothing.
    let all = if all.is_empty() { COVERS.iter().collect() } else { all };
    for cover in all {
        let optimized = for_gpu(common, cover, target)?;
        let text = optimized.to_string();
        if known.contains(&text) {
            continue;
        }
        known.push(text);
        match lower::lower_gpu(&optimized, &mut Weights::untold(), modules, kernels) {
            Ok((_, cost)) => {
                if best.as_ref().is_none_or(|b| cost < GAIN * choices[b.1].cost) {
                    best = Some((optimized, choices.len()));
                }
                choices.push(Choice { name: cover.name, cost, chosen: false });
            }
            Err(steps) => refused = refused.or(Some(steps)),
        }
    }
    let Some((optimized, i)) = best else { return Ok(Err(refused.unwrap_or_default())) };
    choices[i].chosen = true;
    Ok(lower::lower_gpu(&optimized, weights, modules, kernels).map(|(plan, _)| (plan, choices)))
}

fn for_gpu(common: &Optimized, cover: &Cover, target: Target<'_>) -> Result<Graph, Diags> {
    let without = [cover.without, &GPU_WITHOUT].concat();
    let mut optimized = passes::cover(common, &without)?;
    let half = match target.precision {
        Precision::Fp16 => Some(F16),
        Precision::Bf16 => Some(BF16),
        Precision::Fp32 | Precision::Tf32 => None,
    };
    let own = [Some(MERGE_PRODUCTS), passes::pad_channels(target.precision), half].into_iter().flatten();
    for pass in own.filter(|p| !without.contains(&p.name)) {
        optimized.graph = passes::apply(&pass, &optimized.graph, target.keep_fp32, &mut optimized.remarks)?;
    }
    Ok(optimized.graph)
}
