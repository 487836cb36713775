//! Convolutions compute with channels last, where vectors of channels lie together; the transposes this needs move down
//! through what follows until they meet their inverse.

use super::rewrite::Rewrite;
use crate::graph::{Conv, Node, Op, ValueId, invert};
use wpk_plan::{Expr, ScalarFn};

pub(super) fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    if let Op::Conv(conv) = &node.op
        && !conv.channels_last
        && conv.epilogue.is_none()
    {
        let rank = conv.out.len() + 2;
        let x = cx.b.transpose(inputs[0], &last(rank))?;
        let conv = Conv { channels_last: true, ..conv.clone() };
        let y = cx.b.one(Op::Conv(conv), &[x, inputs[1]])?;
        return cx.b.transpose(y, &first(rank)).map(|y| Some(vec![y]));
    }
    sink(cx, &node.op, inputs)
}

/// Channels second to channels last.
pub(super) fn last(rank: usize) -> Vec<usize> {
    [0].into_iter().chain(2..rank).chain([1]).collect()
}

/// Channels last to channels second.
pub(super) fn first(rank: usize) -> Vec<usize> {
    invert(&last(rank))
}

/// What a value is the transpose of, where channels were brought second.
fn behind(cx: &Rewrite<'_>, v: ValueId) -> Option<ValueId> {
    match cx.b.graph.op(v)? {
        (Op::Transpose(perm), inputs) if perm.len() > 2 && *perm == first(perm.len()) => Some(inputs[0]),
        _ => None,
    }
}

/// The operation on channels-last operands, transposed afterwards; `None` where it does not commute or would not pay.
fn sink(cx: &mut Rewrite<'_>, op: &Op, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    let Some(rank) = inputs.iter().find_map(|&v| behind(cx, v)).map(|v| cx.b.shape(v).len()) else { return Ok(None) };
    // Dimension d of the result lies at `perm[d]` of the channels-last result.
    let perm = first(rank);
    let place = |list: &[usize]| last(rank).iter().map(|&d| list[d]).collect::<Vec<_>>();
    let x = behind(cx, inputs[0]);
    let (moved, operands) = match (op, x) {
        (Op::Map { function, shape }, _) if shape.len() == rank => {
            let Some(operands) = map_operands(cx, inputs, shape)? else { return Ok(None) };
            (Op::Map { function: reindexed(function, &perm), shape: place(shape) }, operands)
        }
        (Op::Window { kind, dims, count_pad, out, indices: false }, Some(x)) => {
            let dims = last(rank).iter().map(|&d| dims[d]).collect();
            (Op::Window { kind: *kind, dims, count_pad: *count_pad, out: place(out), indices: false }, vec![x])
        }
        (Op::Pad { before, after, fill }, Some(x)) => (Op::Pad { before: place(before), after: place(after), fill: *fill }, vec![x]),
        (Op::Slice { start, step, count }, Some(x)) => {
            let step = last(rank).iter().map(|&d| step[d]).collect();
            (Op::Slice { start: place(start), step, count: place(count) }, vec![x])
        }
        (Op::Reduce { kind, axes }, Some(x)) => (Op::Reduce { kind: *kind, axes: last(rank).iter().map(|&d| axes[d]).collect() }, vec![x]),
        (Op::Resample { axis }, Some(x)) => (Op::Resample { axis: perm[*axis] }, vec![x, inputs[1], inputs[2]]),
        (Op::Gather { axis }, Some(x)) if cx.b.shape(inputs[1]).len() == 1 => (Op::Gather { axis: perm[*axis] }, vec![x, inputs[1]]),
        (Op::Concat(axis), _) => {
            let own: Vec<Option<ValueId>> = inputs.iter().map(|&v| behind(cx, v)).collect();
            if 2 * own.iter().flatten().count() < inputs.len() {
                return Ok(None);
            }
            let mut operands = vec![];
            for (own, &v) in own.into_iter().zip(inputs) {
                operands.push(match own {
                    Some(own) => own,
                    None => cx.b.transpose(v, &last(rank))?,
                });
            }
            (Op::Concat(perm[*axis]), operands)
        }
        _ => return Ok(None),
    };
    let y = cx.b.one(moved, &operands)?;
    cx.b.transpose(y, &perm).map(|y| Some(vec![y]))
}

/// The operands of a map with channels last, where more of them come that way than would have to be turned.
fn map_operands(cx: &mut Rewrite<'_>, inputs: &[ValueId], shape: &[usize]) -> Result<Option<Vec<ValueId>>, String> {
    let rank = shape.len();
    let turned = inputs.iter().filter(|&&v| behind(cx, v).is_some()).count();
    let whole = |v: ValueId| cx.b.graph.literal(v).is_none() && cx.b.graph.shape(v) == shape;
    let other = inputs.iter().filter(|&&v| behind(cx, v).is_none() && whole(v)).count();
    if other > turned {
        return Ok(None);
    }
    let mut operands = vec![];
    for &v in inputs {
        operands.push(match behind(cx, v) {
            Some(own) if cx.b.shape(own).len() == rank => own,
            _ => {
                let own = cx.b.shape(v);
                let full = [vec![1; rank - own.len()], own].concat();
                let v = cx.b.reshape(v, &full)?;
                cx.b.transpose(v, &last(rank))?
            }
        });
    }
    Ok(Some(operands))
}

fn reindexed(f: &ScalarFn, perm: &[usize]) -> ScalarFn {
    let mut g = f.clone();
    for inst in &mut g.insts {
        if let Expr::Index(d) = inst.expr {
            inst.expr = Expr::Index(perm[usize::from(d)] as u16);
        }
    }
    g
}
