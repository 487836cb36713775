//! Bias, residual and activation move into the convolution or matrix product before them.

use super::rewrite::{NotFused, Rewrite};
use crate::graph::{Conv, Node, Op, ValueId, sum_of};
use wpk_plan::{DType, ScalarFn};

pub(super) fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    let Op::Map { function, shape } = &node.op else { return Ok(None) };
    if function.outputs.len() != 1 {
        return Ok(None);
    }
    // The latest of several sums takes the others as operands, rather one that is not levels yet.
    let mut sums: Vec<usize> = (0..inputs.len()).filter(|&i| is_sum(cx, inputs[i])).collect();
    sums.sort_by_key(|&i| (cx.b.dtype(inputs[i]) == DType::I8, std::cmp::Reverse(inputs[i])));
    for i in sums {
        let v = inputs[i];
        let checks = [
            (!cx.single(v), NotFused::Shared),
            (cx.b.graph.shape(v) != shape, NotFused::ShapeDiffers),
            (function.uses_index(), NotFused::ReadsCoordinates),
            (inputs.len() > 8, NotFused::TooLong),
        ];
        if let Some((_, reason)) = checks.into_iter().find(|c| c.0) {
            cx.refuse(node, v, reason);
            continue;
        }
        let Some((op, own)) = cx.b.graph.op(v).map(|(op, own)| (op.clone(), own.to_vec())) else { continue };
        let dtype = sum_of(cx.b.dtype(own[0]));
        let mut fused = ScalarFn::default();
        let mut operands = own;
        let extras = operands.len() - 2;
        let mut names = vec![fused.input(0, dtype)];
        names.extend((0..extras).map(|e| fused.input(1 + e, cx.b.dtype(operands[2 + e]))));
        let sum = match epilogue(&op) {
            Some(e) => fused.inline(e, &names)[0],
            None => names[0],
        };
        let mut arguments = vec![];
        for (j, &w) in inputs.iter().enumerate() {
            arguments.push(if j == i {
                sum
            } else {
                let at = operands[2..].iter().position(|o| *o == w).unwrap_or_else(|| {
                    operands.push(w);
                    operands.len() - 3
                });
                fused.input(1 + at, cx.b.dtype(w))
            });
        }
        fused.outputs = fused.inline(function, &arguments);
        crate::scalar::simplify(&mut fused);
        cx.merge_origin(node, v);
        let op = match op {
            Op::Conv(c) => Op::Conv(Conv { epilogue: Some(fused), ..c }),
            Op::Contract { a, b, out, .. } => Op::Contract { a, b, out, epilogue: Some(fused) },
            other => other,
        };
        return cx.b.add(op, &operands).map(Some);
    }
    Ok(None)
}

fn is_sum(cx: &Rewrite<'_>, v: ValueId) -> bool {
    matches!(cx.b.graph.op(v), Some((Op::Conv(_) | Op::Contract { .. }, _)))
}

/// What is stored for a sum.
pub(super) fn epilogue(op: &Op) -> Option<&ScalarFn> {
    match op {
        Op::Conv(c) => c.epilogue.as_ref(),
        Op::Contract { epilogue, .. } => epilogue.as_ref(),
        _ => None,
    }
}
