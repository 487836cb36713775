//! Looking at what a value was made of.

use crate::graph::{Graph, Op, ValueId};
use crate::scalar::constant;
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, Expr, ScalarFn, Unary};

/// An operand of a map of one operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Term {
    /// A value of the graph.
    Value(ValueId),
    /// A constant in the function.
    Const(f64),
}

impl Term {
    /// The value, where it is one.
    pub fn value(self) -> Option<ValueId> {
        match self {
            Self::Value(v) => Some(v),
            Self::Const(_) => None,
        }
    }
}

fn term(f: &ScalarFn, x: u16, inputs: &[ValueId]) -> Option<Term> {
    match f.insts[usize::from(x)].expr {
        Expr::Input(i) => inputs.get(usize::from(i)).map(|&v| Term::Value(v)),
        _ => constant(f, x).map(Term::Const),
    }
}

/// The map behind a value, where it has one result.
pub fn map(g: &Graph, v: ValueId) -> Option<(&ScalarFn, &[ValueId])> {
    match g.op(v)? {
        (Op::Map { function, .. }, inputs) if function.outputs.len() == 1 => Some((function, inputs)),
        _ => None,
    }
}

/// `f(x, y)` where a value is a map of that one operation.
pub fn binary(g: &Graph, v: ValueId, f: Binary) -> Option<(Term, Term)> {
    let (function, inputs) = map(g, v)?;
    match function.insts[usize::from(function.outputs[0])].expr {
        Expr::Binary(b, x, y) if b == f => Some((term(function, x, inputs)?, term(function, y, inputs)?)),
        _ => None,
    }
}

/// `f(x)` where a value is a map of that one operation.
pub fn unary(g: &Graph, v: ValueId, f: Unary) -> Option<ValueId> {
    let (function, inputs) = map(g, v)?;
    match function.insts[usize::from(function.outputs[0])].expr {
        Expr::Unary(u, x) if u == f => term(function, x, inputs)?.value(),
        _ => None,
    }
}

/// What a value is the mean of, along its last dimension alone.
pub fn mean_of_rows(g: &Graph, v: ValueId) -> Option<ValueId> {
    match g.op(v)? {
        (Op::Reduce { kind: ReduceKind::Mean, axes }, inputs) => {
            let last = axes.len().checked_sub(1)?;
            axes.iter().enumerate().all(|(d, &r)| r == (d == last)).then_some(inputs[0])
        }
        _ => None,
    }
}
