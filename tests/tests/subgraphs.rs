//! Graphs within graphs: functions that a model defines, branches and loops, where they can be told apart at build time and where not.

use wpk_build::Model;
use wpk_build::graph::evaluate;
use wpk_build::onnx::proto::{Attribute, Function, Graph, Node, OperatorSet, ValueInfo};
use wpk_kernels::{Rounding, Tensor};
use wpk_plan::DType;
use wpk_tests::text;

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|&s| s.to_owned()).collect()
}

fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<Attribute>) -> Node {
    Node { op_type: op.to_owned(), input: names(inputs), output: names(outputs), attribute, ..Node::default() }
}

fn body(name: &str, inputs: &[&str], outputs: &[&str], node: Vec<Node>) -> Attribute {
    let info = |n: &&str| ValueInfo { name: (*n).to_owned(), ..ValueInfo::default() };
    let graph = Graph {
        node,
        name: name.to_owned(),
        input: inputs.iter().map(info).collect(),
        output: outputs.iter().map(info).collect(),
        ..Graph::default()
    };
    Attribute { name: name.to_owned(), g: Some(graph), ..Attribute::default() }
}

/// The results of a model in text with other nodes and functions, for the values of its inputs, or what is wrong with it.
fn run(header: &str, nodes: Vec<Node>, functions: Vec<Function>, inputs: &[Tensor]) -> Result<Vec<Vec<f64>>, String> {
    let source = wpk_build::onnx::parse(text::bytes(header)).expect("the model is read");
    let mut source = source;
    let graph = source.model.graph.as_mut().expect("a graph");
    graph.node = nodes;
    source.model.functions = functions;
    let compiled = Model::new("m.onnx").build_from(&source).map_err(|d| d.to_string())?;
    let results = evaluate(&compiled.graphs[0].0, inputs, Rounding::ToType);
    Ok(results.iter().map(|t| (0..t.len()).map(|i| t.f(i)).collect()).collect())
}

const HEADER: &str = "input x f32 2\ninput c bool 1\nconst n i64 1 = 3\nconst one f32 1 = 1\ny = Identity(x)\noutput y";

fn inputs(x: [f64; 2], c: i64) -> [Tensor; 2] {
    [Tensor::floats(DType::F32, x.to_vec()), Tensor::ints(DType::Bool, vec![c])]
}

#[test]
fn a_loop_collects_as_many_results_as_it_has_rounds() {
    let header = "input x f32 2\nconst n i64 1 = 4\nconst limit f32 1 = 10\nconst yes bool 1 = 1\ny = Identity(x)\noutput y\noutput s";
    let step = vec![
        node("Add", &["d0", "d0"], &["d"], vec![]),
        node("ReduceMax", &["d"], &["m"], vec![]),
        node("Reshape", &["m", "first"], &["m1"], vec![]),
        node("Less", &["m1", "limit"], &["go"], vec![]),
        node("Identity", &["d"], &["kept"], vec![]),
    ];
    let header = &header.replace("const limit", "const first i64 1 = 1\nconst limit");
    let nodes = vec![node("Loop", &["n", "yes", "x"], &["y", "s"], vec![body("body", &["i", "b", "d0"], &["go", "d", "kept"], step)])];
    for (x, rounds) in [(1.0, 4), (3.0, 2), (6.0, 1), (0.1, 4)] {
        let found = run(header, nodes.clone(), vec![], &[Tensor::floats(DType::F32, vec![x, 0.0])]).unwrap();
        let expected: Vec<f64> = (1..=rounds).flat_map(|r| [f64::from(x as f32) * f64::from(1 << r), 0.0]).collect();
        assert_eq!((&found[1][..2 * rounds as usize], &found[2]), (&expected[..], &vec![f64::from(rounds)]), "{x}");
        assert_eq!(found[0], expected[expected.len() - 2..], "{x}");
    }
}

#[test]
fn a_condition_at_run_time_chooses_between_both_branches() {
    let branches = vec![
        body("then_branch", &[], &["t"], vec![node("Add", &["x", "one"], &["t"], vec![])]),
        body("else_branch", &[], &["e"], vec![node("Neg", &["x"], &["e"], vec![])]),
    ];
    let nodes = vec![node("If", &["c"], &["y"], branches)];
    for (c, expected) in [(1, [2.0, 3.0]), (0, [-1.0, -2.0])] {
        assert_eq!(run(HEADER, nodes.clone(), vec![], &inputs([1.0, 2.0], c)).unwrap(), [expected]);
    }
}

#[test]
fn a_loop_keeps_its_state_once_its_condition_is_false() {
    // Doubles while the condition holds; the body's condition is the outer one.
    let rounds = |cond: &str| {
        let step = vec![node("Add", &["s", "s"], &["d"], vec![]), node("Identity", &["c"], &["go"], vec![])];
        vec![node("Loop", &["n", cond, "x"], &["y"], vec![body("body", &["i", "b", "s"], &["go", "d"], step)])]
    };
    assert_eq!(run(HEADER, rounds(""), vec![], &inputs([1.0, 2.0], 0)).unwrap(), [[8.0, 16.0]]);
    assert_eq!(run(HEADER, rounds("c"), vec![], &inputs([1.0, 2.0], 1)).unwrap(), [[8.0, 16.0]]);
    assert_eq!(run(HEADER, rounds("c"), vec![], &inputs([1.0, 2.0], 0)).unwrap(), [[1.0, 2.0]]);
}

fn function(name: &str, node: Vec<Node>) -> Function {
    let sets = vec![OperatorSet { domain: String::new(), version: 17 }];
    Function {
        name: name.to_owned(),
        domain: "own".to_owned(),
        input: names(&["a"]),
        output: names(&["b"]),
        node,
        opset_import: sets,
        ..Function::default()
    }
}

fn call(name: &str, attribute: Vec<Attribute>) -> Node {
    Node { domain: "own".to_owned(), ..node(name, &["x"], &["y"], attribute) }
}

#[test]
fn functions_of_the_model_take_attributes_and_see_no_names_around_them() {
    let alpha = |name: &str, r: &str, f: f32| Attribute { name: name.to_owned(), ref_attr_name: r.to_owned(), f, ..Attribute::default() };
    let leaky = function("Leaky", vec![node("LeakyRelu", &["a"], &["b"], vec![alpha("alpha", "slope", 0.0)])]);
    let found = run(HEADER, vec![call("Leaky", vec![alpha("slope", "", 0.5)])], vec![leaky], &inputs([-2.0, 2.0], 0));
    assert_eq!(found.unwrap(), [[-1.0, 2.0]]);
    let outer = function("Outer", vec![node("Add", &["a", "one"], &["b"], vec![])]);
    let error = run(HEADER, vec![call("Outer", vec![])], vec![outer], &inputs([0.0, 0.0], 0)).unwrap_err();
    assert!(error.contains("input \"one\" is not defined before it"), "{error}");
}

#[test]
fn what_has_no_end_is_refused() {
    let again = Node { domain: "own".to_owned(), ..node("Again", &["a"], &["b"], vec![]) };
    let error = run(HEADER, vec![call("Again", vec![])], vec![function("Again", vec![again])], &inputs([0.0, 0.0], 0)).unwrap_err();
    assert!(error.contains("the function calls itself"), "{error}");
    let step = vec![node("Add", &["s", "s"], &["d"], vec![]), node("Identity", &["b"], &["go"], vec![])];
    let forever = vec![node("Loop", &["", "c", "x"], &["y"], vec![body("body", &["i", "b", "s"], &["go", "d"], step)])];
    let error = run(HEADER, forever, vec![], &inputs([0.0, 0.0], 0)).unwrap_err();
    assert!(error.contains("no constant bounds its rounds") && error.contains("constant trip count"), "{error}");
}

#[test]
fn operators_are_known_by_their_domain() {
    use wpk_build::import::{is_known, operator};
    let own = function("Own", vec![node("Neg", &["a"], &["b"], vec![])]);
    let model = wpk_build::onnx::proto::Model { functions: vec![own], ..Default::default() };
    let cases = [
        ("", "Relu", "Relu", true),
        ("ai.onnx", "Relu", "Relu", true),
        ("com.microsoft", "MatMulNBits", "com.microsoft::MatMulNBits", true),
    ];
    let others =
        [("own", "Own", "own::Own", true), ("other", "Own", "other::Own", false), ("com.microsoft", "Relu", "com.microsoft::Relu", false)];
    for (domain, op, name, known) in cases.into_iter().chain(others) {
        let node = Node { domain: domain.to_owned(), ..node(op, &[], &[], vec![]) };
        assert_eq!((operator(&node).as_str(), is_known(&model, &node)), (name, known));
    }
}
