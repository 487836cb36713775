//! Derivatives by reverse accumulation over core operations.

use crate::graph::{Builder, Literal, Op, Outcome, ValueId, invert};
use std::collections::{BTreeMap, BTreeSet};
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, Expr, ScalarFn, Unary};

/// The derivatives of the sum of `y` by each of `xs`, of their shapes.
pub fn gradient(b: &mut Builder, y: ValueId, xs: &[ValueId]) -> Outcome<Vec<ValueId>> {
    let nodes = b.graph.nodes.clone();
    let mut depends: BTreeSet<ValueId> = xs.iter().copied().collect();
    for node in &nodes {
        if node.inputs.iter().any(|i| depends.contains(i)) {
            depends.extend(&node.outputs);
        }
    }
    let one = b.scalar(1.0, b.dtype(y));
    let seed = b.one(Op::Expand(b.shape(y)), &[one])?;
    let mut adjoints = BTreeMap::from([(y, seed)]);
    for node in nodes.iter().rev().filter(|n| n.outputs.iter().any(|o| depends.contains(o))) {
        let [output] = node.outputs[..] else {
            if node.outputs.iter().any(|o| adjoints.contains_key(o)) {
                return Err(format!("the derivative of {} is not supported", node.op.name()));
            }
            continue;
        };
        let Some(&adjoint) = adjoints.get(&output) else { continue };
        for (i, input) in node.inputs.iter().enumerate().filter(|i| depends.contains(i.1)) {
            let part = pull(b, &node.op, &node.inputs, i, adjoint)?;
            let sum = match adjoints.get(input) {
                Some(&other) => b.binary(Binary::Add, other, part)?,
                None => part,
            };
            adjoints.insert(*input, sum);
        }
    }
    xs.iter()
        .map(|x| match adjoints.get(x) {
            Some(&adjoint) => Ok(adjoint),
            None => {
                let shape = b.shape(*x);
                let zeros = Literal::floats(b.dtype(*x), &shape, &vec![0.0; shape.iter().product()]);
                Ok(b.constant(zeros))
            }
        })
        .collect()
}

/// What an operation's adjoint contributes to that of its input `i`.
fn pull(b: &mut Builder, op: &Op, inputs: &[ValueId], i: usize, adjoint: ValueId) -> Outcome<ValueId> {
    let shape = b.shape(inputs[i]);
    match op {
        Op::Map { function, shape: over } => {
            let mut f = function.clone();
            let slope = slope(&mut f, i)?;
            let factor = f.input(inputs.len(), f.dtype(slope));
            let product = f.binary(Binary::Mul, slope, factor);
            f.outputs = vec![product];
            let operands = [inputs, &[adjoint]].concat();
            let full = b.one(Op::Map { function: f, shape: over.clone() }, &operands)?;
            narrow(b, full, &shape)
        }
        Op::Expand(_) => narrow(b, adjoint, &shape),
        Op::Reshape(_) => b.reshape(adjoint, &shape),
        Op::Transpose(perm) => b.transpose(adjoint, &invert(perm)),
        Op::Reduce { kind: ReduceKind::Sum, .. } => b.one(Op::Expand(shape), &[adjoint]),
        Op::Reduce { kind: ReduceKind::Mean, axes } => {
            let count: usize = shape.iter().zip(axes).filter(|s| *s.1).map(|s| s.0).product();
            let scaled = b.map(&[adjoint], |f, x| {
                let factor = f.constant(1.0 / count as f64, f.dtype(x[0]));
                f.binary(Binary::Mul, x[0], factor)
            })?;
            b.one(Op::Expand(shape), &[scaled])
        }
        Op::Contract { a, b: second, out, epilogue: None } => {
            let (own, other) = if i == 0 { (a, second) } else { (second, a) };
            if own.iter().any(|l| !out.contains(l) && !other.contains(l)) {
                return Err("the derivative of a sum over one factor alone is not supported".to_owned());
            }
            let op = Op::Contract { a: out.clone(), b: other.clone(), out: own.clone(), epilogue: None };
            b.one(op, &[adjoint, inputs[1 - i]])
        }
        other => Err(format!("the derivative of {} is not supported", other.name())),
    }
}

/// The sum over the dimensions along which `shape` was broadcast.
fn narrow(b: &mut Builder, x: ValueId, shape: &[usize]) -> Outcome<ValueId> {
    let full = b.shape(x);
    let lead = full.len() - shape.len();
    let axes: Vec<usize> = (0..full.len()).filter(|&d| d < lead || shape[d - lead] == 1 && full[d] != 1).collect();
    let sum = if axes.is_empty() { x } else { b.reduce(ReduceKind::Sum, x, &axes)? };
    b.reshape(sum, shape)
}

/// Appends the derivative of a function's only result by input `i`, from the first operation to the last.
fn slope(f: &mut ScalarFn, i: usize) -> Outcome<u16> {
    let [result] = f.outputs[..] else { return Err("the derivative of several results at once is not supported".to_owned()) };
    let mut slopes: Vec<u16> = vec![];
    for at in 0..f.insts.len() as u16 {
        let inst = f.insts[usize::from(at)];
        let t = inst.dtype;
        let d = |x: u16| slopes[usize::from(x)];
        let slope = match inst.expr {
            Expr::Input(n) => f.constant(f64::from(u8::from(usize::from(n) == i)), t),
            Expr::Const(_) | Expr::Index(_) => f.constant(0.0, t),
            Expr::Cast(x) => f.cast(d(x), t),
            Expr::Select(c, x, y) => f.select(c, d(x), d(y)),
            // What is not differentiated must not depend on the input.
            _ if !t.is_float() => f.constant(0.0, t),
            Expr::Unary(u, x) => {
                let outer = unary(f, u, x, at)?;
                f.binary(Binary::Mul, outer, d(x))
            }
            Expr::Binary(op, x, y) => binary(f, op, (x, y), (d(x), d(y)))?,
        };
        slopes.push(slope);
    }
    Ok(slopes[usize::from(result)])
}

/// The derivative of a function of one value `x` with result `y`.
fn unary(f: &mut ScalarFn, u: Unary, x: u16, y: u16) -> Outcome<u16> {
    let t = f.dtype(x);
    let one = f.constant(1.0, t);
    Ok(match u {
        Unary::Neg => f.constant(-1.0, t),
        Unary::Abs => f.unary(Unary::Sign, x),
        Unary::Exp => y,
        Unary::Log => f.unary(Unary::Recip, x),
        Unary::Sin => f.unary(Unary::Cos, x),
        Unary::Cos => {
            let sin = f.unary(Unary::Sin, x);
            f.unary(Unary::Neg, sin)
        }
        Unary::Sqrt => {
            let twice = f.binary(Binary::Add, y, y);
            f.unary(Unary::Recip, twice)
        }
        Unary::Recip => {
            let square = f.binary(Binary::Mul, y, y);
            f.unary(Unary::Neg, square)
        }
        Unary::Tanh => {
            let square = f.binary(Binary::Mul, y, y);
            f.binary(Binary::Sub, one, square)
        }
        Unary::Sigmoid => {
            let rest = f.binary(Binary::Sub, one, y);
            f.binary(Binary::Mul, y, rest)
        }
        other => return Err(format!("the derivative of {other} is not supported")),
    })
}

/// The derivative of a function of two values with derivatives `dx` and `dy`.
fn binary(f: &mut ScalarFn, op: Binary, (x, y): (u16, u16), (dx, dy): (u16, u16)) -> Outcome<u16> {
    Ok(match op {
        Binary::Add | Binary::Sub => f.binary(op, dx, dy),
        Binary::Mul => {
            let (left, right) = (f.binary(Binary::Mul, dx, y), f.binary(Binary::Mul, x, dy));
            f.binary(Binary::Add, left, right)
        }
        Binary::Div => {
            let quotient = f.binary(Binary::Div, x, y);
            let right = f.binary(Binary::Mul, quotient, dy);
            let difference = f.binary(Binary::Sub, dx, right);
            f.binary(Binary::Div, difference, y)
        }
        Binary::Max | Binary::Min => {
            let (low, high) = if op == Binary::Max { (y, x) } else { (x, y) };
            let first = f.binary(Binary::Le, low, high);
            f.select(first, dx, dy)
        }
        other => return Err(format!("the derivative of {other} is not supported")),
    })
}
