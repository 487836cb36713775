//! A model at a glance.

use crate::output::Output;
use crate::{ModelArgs, Outcome};
use serde_json::json;
use std::collections::BTreeMap;
use wpk_build::import::{describe_input, is_known, operator, opset};
use wpk_build::onnx;

pub fn inspect(args: &ModelArgs) -> Outcome {
    let source = onnx::load(&args.model)?;
    let Some(graph) = &source.model.graph else { return Err("no graph".into()) };
    let mut out = Output::new(args.json);
    let (producer, opset, nodes) =
        (format!("{} {}", source.model.producer_name, source.model.producer_version), opset(&source.model), graph.node.len());
    let line = format!("{producer}: opset {opset}, {nodes} nodes");
    out.say("model", json!({"producer": producer, "opset": opset, "nodes": nodes}), &line);
    let weights: Vec<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    for info in graph.input.iter().filter(|i| !weights.contains(&i.name.as_str())) {
        let text = describe_input(info);
        out.item("inputs", json!({"name": info.name, "type": text}), &format!("input  {}: {text}", info.name));
    }
    for info in &graph.output {
        let text = describe_input(info);
        out.item("outputs", json!({"name": info.name, "type": text}), &format!("output {}: {text}", info.name));
    }
    let parameters: i64 = graph.initializer.iter().map(|t| t.dims.iter().product::<i64>()).sum();
    out.say("parameters", json!(parameters), &format!("parameters {parameters}"));
    let mut operators: BTreeMap<(String, bool), usize> = BTreeMap::new();
    graph.node.iter().for_each(|n| *operators.entry((operator(n), is_known(&source.model, n))).or_default() += 1);
    let listed: Vec<String> =
        operators.iter().map(|((op, known), n)| format!("{op} {n}{}", if *known { "" } else { " (unsupported)" })).collect();
    let counts: Vec<_> = operators.iter().map(|((op, known), n)| json!({"name": op, "nodes": n, "supported": known})).collect();
    out.say("operators", json!(counts), &format!("operators {}", listed.join(", ")));
    let compiled = args.model().build_from(&source)?;
    for (_, plan) in &compiled.program.buckets {
        let steps = plan.body.steps();
        let operations: u64 = steps.iter().map(|s| s.kernel.problem().operations()).sum();
        let line = format!(
            "plan   {} steps, {:.3} GFLOP, arena {:.1} MB, weights {:.1} MB",
            steps.len(),
            operations as f64 / 1e9,
            plan.arena as f64 / 1e6,
            compiled.blob.len() as f64 / 1e6
        );
        let value = json!({"steps": steps.len(), "operations": operations, "arena": plan.arena, "weights": compiled.blob.len()});
        out.item("plans", value, &line);
    }
    Ok(())
}
