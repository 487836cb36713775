//! Models before and after graph passes, as text.

use crate::text;
use wpk_build::import::{Options, import};
use wpk_build::onnx::parse;
use wpk_build::passes::{PIPELINE, apply};

/// Runs every pass up to the named one and compares the graph's text.
#[track_caller]
pub fn check(model: &str, pass: &str, expected: &str) {
    let (graph, _) = run(model, pass);
    let normal = |s: &str| s.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n");
    assert_eq!(normal(&graph), normal(expected), "\nfound:\n{graph}");
}

/// The graph behind a pass, and what was not fused.
pub fn run(model: &str, pass: &str) -> (String, Vec<String>) {
    let source = parse(text::bytes(model)).expect("the model is read");
    let mut graph = import(&source, &Options::default()).expect("the model is imported");
    let mut remarks = vec![];
    if pass != "import" {
        for p in PIPELINE {
            graph = apply(p, &graph, &[], &mut remarks).expect("the pass succeeds");
            if p.name == pass {
                break;
            }
        }
    }
    (graph.to_string(), remarks.iter().map(ToString::to_string).collect())
}
