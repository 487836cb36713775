//! Half precision for GPUs: tensors are stored and factors multiplied in a half type; sums, statistics and functions stay in
//! `f32`, as do tensors made of integers alone (masks, whose smallest number would become infinite) and the model's results.

use super::rewrite::Rewrite;
use crate::graph::{Conv, Node, Op, ValueId};
use wpk_plan::{DType, Expr, ScalarFn};

pub(super) fn f16(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    rule(cx, node, inputs, DType::F16)
}

pub(super) fn bf16(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    rule(cx, node, inputs, DType::BF16)
}

fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId], half: DType) -> Result<Option<Vec<ValueId>>, String> {
    let float = inputs.first().is_some_and(|&v| [DType::F32, half].contains(&cx.b.dtype(v)));
    let kept = cx.keeps_fp32(&node.origin);
    let result = (!kept && !cx.is_result(node)).then_some(half);
    match &node.op {
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice { .. } | Op::Expand(_) => Ok(None),
        Op::Map { function, shape } => {
            let from_floats = inputs.iter().any(|&v| cx.b.dtype(v).is_float());
            let function = retyped(cx, function, 0, inputs, result.filter(|_| from_floats));
            cx.b.add(Op::Map { function, shape: shape.clone() }, inputs).map(Some)
        }
        Op::Conv(_) | Op::Contract { .. } if float => {
            let factor = if kept { DType::F32 } else { half };
            // Few channels are rounded as they are read.
            let (x, w) = (cx.b.shape(inputs[0]), cx.b.shape(inputs[1]));
            let lacks = matches!(&node.op, Op::Conv(c) if c.lacks_channels(&x, &w));
            let first = if lacks { inputs[0] } else { stored(cx, inputs[0], factor)? };
            let mut operands = vec![first, stored(cx, inputs[1], factor)?];
            operands.extend(&inputs[2..]);
            let identity = ScalarFn::identity(DType::F32);
            let op = match &node.op {
                Op::Conv(c) => {
                    let epilogue = retyped(cx, c.epilogue.as_ref().unwrap_or(&identity), 1, &inputs[2..], result);
                    Op::Conv(Conv { epilogue: Some(epilogue), ..c.clone() })
                }
                Op::Contract { a, b, out, epilogue } => {
                    let epilogue = retyped(cx, epilogue.as_ref().unwrap_or(&identity), 1, &inputs[2..], result);
                    Op::Contract { a: a.clone(), b: b.clone(), out: out.clone(), epilogue: Some(epilogue) }
                }
                other => other.clone(),
            };
            cx.b.add(op, &operands).map(Some)
        }
        // Its function takes the types that it was made for.
        Op::Custom(_) => {
            let types: Vec<DType> = node.inputs.iter().map(|&v| cx.old.dtype(v)).collect();
            let operands = inputs.iter().zip(types).map(|(&v, t)| stored(cx, v, t)).collect::<Result<Vec<_>, _>>()?;
            cx.b.add(node.op.clone(), &operands).map(Some)
        }
        Op::BitCast(_) => all(cx, node, inputs, 1, cx.old.dtype(node.inputs[0])),
        // Positions and running sums are exact.
        Op::Scan { .. } | Op::TopK { .. } | Op::ArgReduce { .. } | Op::ScatterElements { .. } | Op::ScatterNd { .. } => {
            all(cx, node, inputs, inputs.len(), DType::F32)
        }
        op if float => {
            // Masks, scales and biases are read in the type they have.
            let count = match op {
                Op::Attention { .. } => 3,
                Op::Normalize { residual, .. } => 1 + usize::from(*residual),
                _ => inputs.len(),
            };
            all(cx, node, inputs, count, if kept { DType::F32 } else { half })
        }
        _ => Ok(None),
    }
}

/// The node with its first `count` floating operands in one type.
fn all(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId], count: usize, dtype: DType) -> Result<Option<Vec<ValueId>>, String> {
    let mut operands = inputs.to_vec();
    for v in &mut operands[..count] {
        *v = stored(cx, *v, dtype)?;
    }
    cx.b.add(node.op.clone(), &operands).map(Some)
}

/// A floating value in a type; others as they are.
fn stored(cx: &mut Rewrite<'_>, v: ValueId, dtype: DType) -> Result<ValueId, String> {
    let t = cx.b.dtype(v);
    if t == dtype || t != DType::F32 && t.bytes() != 2 || !t.is_float() {
        return Ok(v);
    }
    match cx.b.graph.literal(v).map(|l| l.narrowed(dtype)) {
        Some(literal) => Ok(cx.b.constant(literal)),
        None => cx.b.cast(v, dtype),
    }
}

/// A function in `f32` of inputs from number `first` on that have other types now, with results of type `result`.
fn retyped(cx: &Rewrite<'_>, f: &ScalarFn, first: usize, inputs: &[ValueId], result: Option<DType>) -> ScalarFn {
    let mut g = ScalarFn::default();
    let mut map: Vec<u16> = vec![];
    for inst in &f.insts {
        let expr = inst.expr.map(|x| map[usize::from(x)]);
        let now = match expr {
            Expr::Input(i) if usize::from(i) >= first => inputs.get(usize::from(i) - first).map(|&v| cx.b.dtype(v)),
            _ => None,
        };
        map.push(match now.filter(|t| *t != inst.dtype) {
            Some(t) => {
                let x = g.push(expr, t);
                g.cast(x, inst.dtype)
            }
            None => g.push(expr, inst.dtype),
        });
    }
    for &o in &f.outputs {
        let x = map[usize::from(o)];
        let x = match result {
            Some(t) if g.dtype(x) == DType::F32 => g.cast(x, t),
            _ => x,
        };
        g.outputs.push(x);
    }
    g
}
