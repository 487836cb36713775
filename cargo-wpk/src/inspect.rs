//! A model at a glance.

use crate::{ModelArgs, Outcome};
use std::collections::BTreeMap;
use wpk_build::import::{describe_input, is_known, operator, opset};
use wpk_build::onnx;

pub fn inspect(args: &ModelArgs) -> Outcome {
    let source = onnx::load(&args.model)?;
    let Some(graph) = &source.model.graph else { return Err("no graph".into()) };
    println!(
        "{} {}: opset {}, {} nodes",
        source.model.producer_name,
        source.model.producer_version,
        opset(&source.model),
        graph.node.len()
    );
    let weights: Vec<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    for info in graph.input.iter().filter(|i| !weights.contains(&i.name.as_str())) {
        println!("input  {}: {}", info.name, describe_input(info));
    }
    for info in &graph.output {
        println!("output {}: {}", info.name, describe_input(info));
    }
    let parameters: i64 = graph.initializer.iter().map(|t| t.dims.iter().product::<i64>()).sum();
    println!("parameters {parameters}");
    let mut operators: BTreeMap<(String, bool), usize> = BTreeMap::new();
    graph.node.iter().for_each(|n| *operators.entry((operator(n), is_known(&source.model, n))).or_default() += 1);
    let listed: Vec<String> =
        operators.iter().map(|((op, known), n)| format!("{op} {n}{}", if *known { "" } else { " (unsupported)" })).collect();
    println!("operators {}", listed.join(", "));
    let compiled = args.model().build_from(&source)?;
    for (_, plan) in &compiled.program.buckets {
        let steps = plan.body.steps();
        let operations: u64 = steps.iter().map(|s| s.kernel.problem().operations()).sum();
        println!(
            "plan   {} steps, {:.3} GFLOP, arena {:.1} MB, weights {:.1} MB",
            steps.len(),
            operations as f64 / 1e9,
            plan.arena as f64 / 1e6,
            compiled.blob.len() as f64 / 1e6
        );
    }
    Ok(())
}
