//! What simplifies wherever it appears: operations without effect, chains of views, maps of constants.

use super::builder::Outcome;
use super::{Builder, Literal, Op, ValueId};
use crate::scalar;
use wpk_plan::{DType, Expr, ScalarFn, View};

/// Simpler results for an operation, if there are any.
pub fn simplify(b: &mut Builder, op: &Op, inputs: &[ValueId]) -> Outcome<Option<Vec<ValueId>>> {
    let Some(&x) = inputs.first() else { return Ok(None) };
    let shape = b.shape(x);
    let same = match op {
        Op::Reshape(to) | Op::Expand(to) => *to == shape,
        Op::Transpose(perm) => perm.len() == shape.len() && perm.iter().enumerate().all(|(i, &p)| i == p),
        Op::Slice { start, step, count } => *count == shape && start.iter().all(|&s| s == 0) && step.iter().all(|&s| s == 1),
        Op::Concat(_) => inputs.len() == 1,
        Op::Pad { before, after, .. } => before.iter().chain(after).all(|&n| n == 0) && before.len() == shape.len(),
        _ => false,
    };
    if same {
        return Ok(Some(vec![x]));
    }
    match op {
        Op::Reshape(to) => {
            if let Some(literal) = b.graph.literal(x).filter(|l| to.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) == Some(l.len())) {
                let quantized = literal.quantized.as_ref().and_then(|q| q.reshaped(to)).map(std::sync::Arc::new);
                let literal = Literal { shape: to.clone(), quantized, ..literal.clone() };
                return Ok(Some(vec![b.constant(literal)]));
            }
            chain(b, op, x)
        }
        Op::Transpose(_) | Op::Slice { .. } | Op::Expand(_) => chain(b, op, x),
        Op::Map { function, shape } => map(b, function, shape, inputs),
        _ => Ok(None),
    }
}

/// The view that an operation takes of its input's view.
pub fn view(op: &Op, of: &View) -> Option<View> {
    match op {
        Op::Reshape(to) => of.reshape(to),
        Op::Transpose(perm) if perm.len() == of.shape.len() && perm.iter().all(|&p| p < perm.len()) => Some(of.transpose(perm)),
        Op::Slice { start, step, count } if start.len() == of.shape.len() => Some(of.slice(start, step, count)),
        Op::Expand(to) => of.broadcast(to),
        _ => None,
    }
}

/// Chains of views: transposes compose, and whatever ends in row-major order is a reshape.
fn chain(b: &mut Builder, op: &Op, x: ValueId) -> Outcome<Option<Vec<ValueId>>> {
    if let (Op::Transpose(second), Some((Op::Transpose(first), inputs))) = (op, b.graph.op(x))
        && second.len() == first.len()
        && second.iter().all(|&s| s < first.len())
    {
        let (perm, input) = (second.iter().map(|&s| first[s]).collect(), inputs[0]);
        return Ok(Some(vec![b.one(Op::Transpose(perm), &[input])?]));
    }
    let mut ops = vec![op.clone()];
    let mut base = x;
    loop {
        let dense = View::dense(b.graph.shape(base));
        let composed = ops.iter().rev().try_fold(dense, |v, op| view(op, &v));
        if let Some(v) = composed.filter(|v| v.is_dense() && v.offset == 0 && v.len() == b.graph.shape(base).iter().product::<usize>())
            && !matches!((op, ops.len()), (Op::Reshape(_), 1))
            && !v.is_empty()
        {
            return Ok(Some(vec![b.one(Op::Reshape(v.shape), &[base])?]));
        }
        match b.graph.op(base) {
            Some((earlier, inputs)) if earlier.is_view() => {
                base = inputs[0];
                ops.push(earlier.clone());
            }
            _ => return Ok(None),
        }
    }
}

/// Constants of one element, or of one truth value, enter the function; equal inputs are read once, unread ones not at all; what no input tells
/// apart is computed once.
fn map(b: &mut Builder, function: &ScalarFn, shape: &[usize], inputs: &[ValueId]) -> Outcome<Option<Vec<ValueId>>> {
    let mut simpler = ScalarFn::default();
    let mut kept: Vec<ValueId> = vec![];
    let mut names = vec![];
    for &v in inputs {
        // An expanded input is read through the narrower tensor behind it.
        let v = match b.graph.op(v) {
            Some((Op::Expand(_), i)) => i[0],
            _ => v,
        };
        let dtype = b.dtype(v);
        let constant = b.graph.literal(v).filter(|l| l.len() == 1 || alike(l)).map(Literal::tensor);
        names.push(match constant {
            Some(c) if dtype.is_float() => simpler.constant(c.f(0), dtype),
            Some(c) => simpler.integer(c.i(0), dtype),
            None => {
                let at = kept.iter().position(|k| *k == v).unwrap_or_else(|| {
                    kept.push(v);
                    kept.len() - 1
                });
                simpler.input(at, dtype)
            }
        });
    }
    simpler.outputs = simpler.inline(function, &names);
    scalar::simplify(&mut simpler);
    let read: Vec<bool> = (0..kept.len()).map(|i| simpler.insts.iter().any(|s| s.expr == Expr::Input(i as u16))).collect();
    if read.contains(&false) {
        let names: Vec<u16> = read
            .iter()
            .scan(0, |n, &r| {
                let at = *n;
                *n += u16::from(r);
                Some(at)
            })
            .collect();
        for inst in &mut simpler.insts {
            if let Expr::Input(i) = inst.expr {
                inst.expr = Expr::Input(names[usize::from(i)]);
            }
        }
        kept = kept.into_iter().zip(read).filter(|k| k.1).map(|k| k.0).collect();
    }
    let [output] = simpler.outputs[..] else {
        let changed = (simpler != *function || kept != inputs).then_some(());
        return changed.map(|()| b.add(Op::Map { function: simpler, shape: shape.to_vec() }, &kept)).transpose();
    };
    if let (Expr::Input(i), false) = (simpler.insts[usize::from(output)].expr, kept.is_empty()) {
        return Ok(Some(vec![b.one(Op::Expand(shape.to_vec()), &[kept[usize::from(i)]])?]));
    }
    let narrow = narrowed(b, &simpler, shape, &kept);
    if simpler != *function || kept != inputs || narrow != shape {
        let narrower = b.one(Op::Map { function: simpler, shape: narrow }, &kept)?;
        return Ok(Some(vec![b.one(Op::Expand(shape.to_vec()), &[narrower])?]));
    }
    Ok(None)
}

/// Whether a constant is true everywhere, or nowhere. Numbers are left alone: that all of a weight are alike is an accident.
fn alike(l: &Literal) -> bool {
    l.dtype == DType::Bool && l.bytes.windows(2).all(|pair| pair[0] == pair[1]) && !l.is_empty()
}

/// The extents of a map without those along which neither inputs nor the function change.
fn narrowed(b: &Builder, function: &ScalarFn, shape: &[usize], inputs: &[ValueId]) -> Vec<usize> {
    let rank = shape.len();
    let changes = |axis: usize| {
        let varies = |&v: &ValueId| {
            let own = b.graph.shape(v);
            (own.len() + axis).checked_sub(rank).is_some_and(|at| own[at] != 1)
        };
        inputs.iter().any(varies) || function.insts.iter().any(|i| i.expr == Expr::Index(axis as u16))
    };
    // While dimensions are bounded, every value with one has to tell; behind the import they are not.
    if inputs.is_empty() || shape.contains(&0) || b.is_bounded() {
        return shape.to_vec();
    }
    shape.iter().enumerate().map(|(axis, &n)| if changes(axis) { n } else { 1 }).collect()
}
