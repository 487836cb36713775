//! Chains of maps over one shape become one map.

use super::pattern::map;
use super::rewrite::{NotFused, Rewrite};
use crate::graph::{Node, Op, ValueId};
use wpk_plan::ScalarFn;

/// Operations above which a function is not extended.
const LIMIT: usize = 96;

pub(super) fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    let Op::Map { function, shape } = &node.op else { return Ok(None) };
    let mut fused = ScalarFn::default();
    let mut operands: Vec<ValueId> = vec![];
    let mut names = vec![];
    for &v in inputs {
        let producer = map(&cx.b.graph, v).filter(|(_, i)| !i.is_empty()).map(|(f, i)| (f.clone(), i.to_vec()));
        let reason = producer.as_ref().and_then(|(f, _)| {
            let checks = [
                (!cx.single(v), NotFused::Shared),
                (cx.b.graph.shape(v) != shape, NotFused::ShapeDiffers),
                (f.insts.len() + function.insts.len() > LIMIT, NotFused::TooLong),
            ];
            checks.into_iter().find(|c| c.0).map(|c| c.1)
        });
        match (producer, reason) {
            (Some((f, own)), None) => {
                let own: Vec<u16> = own.iter().map(|&o| operand(cx, &mut fused, &mut operands, o)).collect();
                names.push(fused.inline(&f, &own)[0]);
                cx.merge_origin(node, v);
            }
            (producer, reason) => {
                if let (Some(_), Some(reason)) = (producer, reason) {
                    cx.refuse(node, v, reason);
                }
                names.push(operand(cx, &mut fused, &mut operands, v));
            }
        }
    }
    fused.outputs = fused.inline(function, &names);
    cx.b.add(Op::Map { function: fused, shape: shape.clone() }, &operands).map(Some)
}

fn operand(cx: &Rewrite<'_>, f: &mut ScalarFn, operands: &mut Vec<ValueId>, v: ValueId) -> u16 {
    let at = operands.iter().position(|o| *o == v).unwrap_or_else(|| {
        operands.push(v);
        operands.len() - 1
    });
    f.input(at, cx.b.dtype(v))
}
