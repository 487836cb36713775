//! Half-precision values become `f32`, and narrow integers are widened where kernels compute: the CPU has no arithmetic
//! for them. Types at the model's border stay.

use super::rewrite::Rewrite;
use crate::graph::{Literal, Node, Op, ValueId};
use wpk_plan::{DType, Expr, ScalarFn};

pub(super) fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    let inputs = inputs.iter().map(|&v| float(cx, v)).collect::<Result<Vec<_>, _>>()?;
    if let Op::BitCast(_) = node.op {
        let original = cx.b.cast(inputs[0], cx.old.dtype(node.inputs[0]))?;
        return cx.b.add(node.op.clone(), &[original]).map(Some);
    }
    if let Op::Map { function, shape } = &node.op {
        let op = Op::Map { function: widened(function), shape: shape.clone() };
        return cx.b.add(op, &inputs).map(Some);
    }
    let narrow =
        inputs.first().map(|&v| cx.b.dtype(v)).filter(|t| !node.op.moves() && !t.is_float() && !matches!(t, DType::I32 | DType::I64));
    let Some(narrow) = narrow else { return cx.b.add(node.op.clone(), &inputs).map(Some) };
    let mut wide = vec![];
    for &v in &inputs {
        wide.push(if cx.b.dtype(v) == narrow { cx.b.cast(v, DType::I64)? } else { v });
    }
    let mut outputs = cx.b.add(node.op.clone(), &wide)?;
    if !matches!(node.op, Op::ArgReduce { .. }) {
        outputs[0] = cx.b.cast(outputs[0], cx.old.dtype(node.outputs[0]))?;
    }
    Ok(Some(outputs))
}

fn wide(t: DType) -> DType {
    if matches!(t, DType::F16 | DType::BF16) { DType::F32 } else { t }
}

fn float(cx: &mut Rewrite<'_>, v: ValueId) -> Result<ValueId, String> {
    let t = cx.b.dtype(v);
    if wide(t) == t {
        return Ok(v);
    }
    if let Some(l) = cx.b.graph.literal(v) {
        let mut tensor = l.tensor();
        tensor.dtype = DType::F32;
        let literal = Literal::new(&tensor, &l.shape);
        return Ok(cx.b.constant(literal));
    }
    cx.b.cast(v, DType::F32)
}

/// The function on `f32` instead of half types. A cast to a half type and back loses its rounding.
fn widened(f: &ScalarFn) -> ScalarFn {
    let mut g = ScalarFn::default();
    let mut map: Vec<u16> = vec![];
    for inst in &f.insts {
        let expr = inst.expr.map(|x| map[usize::from(x)]);
        let dtype = wide(inst.dtype);
        map.push(match expr {
            Expr::Cast(x) => g.cast(x, dtype),
            expr => g.push(expr, dtype),
        });
    }
    g.outputs = f.outputs.iter().map(|&o| map[usize::from(o)]).collect();
    g
}
