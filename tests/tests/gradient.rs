//! Derivatives against finite differences of the float64 evaluator.

use wpk_build::gradient::gradient;
use wpk_build::graph::{Builder, Graph, Op, ValueId, evaluate};
use wpk_kernels::{Rounding, Tensor};
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, DType, Unary};

const STEP: f64 = 1e-5;

fn inputs(graph: &Graph) -> Vec<Tensor> {
    let number = |i: usize| ((i * 37 + 11) % 29) as f64 / 20.0 + 0.2;
    let one = |id: ValueId| Tensor::floats(DType::F64, (0..graph.shape(id).iter().product()).map(number).collect());
    graph.inputs.iter().map(|i| one(i.1)).collect()
}

/// The derivatives of the function that `build` makes of two inputs, against differences.
#[track_caller]
fn check(shapes: [&[usize]; 2], build: impl FnOnce(&mut Builder, ValueId, ValueId) -> Result<ValueId, String>) {
    let mut b = Builder::default();
    let xs = [b.input("x", DType::F64, shapes[0]), b.input("y", DType::F64, shapes[1])];
    let result = build(&mut b, xs[0], xs[1]).expect("a function");
    let derivatives = gradient(&mut b, result, &xs).expect("derivatives");
    b.graph.outputs = [result].iter().chain(&derivatives).map(|&v| (String::new(), v)).collect();
    let sum = |at: &[Tensor]| {
        let y = &evaluate(&b.graph, at, Rounding::Never)[0];
        (0..y.len()).map(|i| y.f(i)).sum::<f64>()
    };
    let at = inputs(&b.graph);
    let found = evaluate(&b.graph, &at, Rounding::Never);
    for (n, x) in at.iter().enumerate() {
        for i in 0..x.len() {
            let moved = |by: f64| {
                let mut at = at.clone();
                at[n].set(i, &Tensor::floats(DType::F64, vec![x.f(i) + by]), 0);
                sum(&at)
            };
            let (slope, expected) = (found[1 + n].f(i), (moved(STEP) - moved(-STEP)) / (2.0 * STEP));
            assert!((slope - expected).abs() < 1e-6 * (1.0 + expected.abs()), "input {n} element {i}: {slope} instead of {expected}");
        }
    }
}

#[test]
fn derivatives_agree_with_differences() {
    check([&[2, 3], &[3]], |b, x, y| {
        let product = b.binary(Binary::Mul, x, y)?;
        let tanh = b.unary(Unary::Tanh, product)?;
        let quotient = b.binary(Binary::Div, tanh, y)?;
        b.binary(Binary::Max, quotient, x)
    });
    check([&[2, 3], &[3, 4]], |b, x, y| {
        let op = Op::Contract { a: b"mk".to_vec(), b: b"kn".to_vec(), out: b"mn".to_vec(), epilogue: None };
        let product = b.one(op, &[x, y])?;
        let root = b.unary(Unary::Sqrt, product)?;
        b.reduce(ReduceKind::Mean, root, &[1])
    });
    check([&[2, 3], &[3, 2]], |b, x, y| {
        let turned = b.transpose(y, &[1, 0])?;
        let exp = b.unary(Unary::Exp, turned)?;
        let sigmoid = b.unary(Unary::Sigmoid, x)?;
        let sum = b.binary(Binary::Sub, exp, sigmoid)?;
        let log = b.unary(Unary::Log, x)?;
        let product = b.binary(Binary::Mul, sum, log)?;
        b.reduce(ReduceKind::Sum, product, &[0])
    });
}

#[test]
fn what_has_no_rule_is_refused_by_name() {
    let mut b = Builder::default();
    let x = b.input("x", DType::F64, &[2, 3]);
    let y = b.one(Op::Softmax { log: false }, &[x]).expect("a softmax");
    assert_eq!(gradient(&mut b, y, &[x]), Err("the derivative of softmax is not supported".to_owned()));
}
