//! A map of two sums of bytes takes one of them as levels: its scale, bias and rounding to bytes become a map of their own, which the
//! epilogue pass moves into that sum, so that a byte is stored instead of 32 bits.

use super::rewrite::Rewrite;
use crate::graph::{Node, Op, ValueId};
use wpk_plan::{DType, Expr, ScalarFn};

pub(super) fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    let Op::Map { function, shape } = &node.op else { return Ok(None) };
    let sum = |v: ValueId| {
        let product = matches!(cx.b.graph.op(v), Some((Op::Conv(_) | Op::Contract { .. }, _)));
        product && cx.single(v) && cx.b.dtype(v) == DType::I32 && cx.b.graph.shape(v) == shape
    };
    let mut sums: Vec<usize> = (0..inputs.len()).filter(|&i| sum(inputs[i])).collect();
    sums.sort_by_key(|&i| inputs[i]);
    // The latest stays: it is there when the map is computed.
    sums.pop();
    let (mut function, mut operands) = (function.clone(), inputs.to_vec());
    for i in sums {
        let whole = |e: usize| cx.b.graph.shape(operands[e]) == shape;
        let Some(at) = border(&function, i, whole) else { continue };
        let mut levels = function.clone();
        levels.outputs = vec![at];
        levels.prune();
        let levels = cx.b.one(Op::Map { function: levels, shape: shape.clone() }, &operands)?;
        function = cut(&function, at, operands.len());
        operands.push(levels);
    }
    if operands.len() == inputs.len() {
        return Ok(None);
    }
    cx.b.add(Op::Map { function, shape: shape.clone() }, &operands).map(Some)
}

/// The inputs that an instruction depends on.
fn inputs(f: &ScalarFn, at: u16) -> Vec<usize> {
    let mut part = f.clone();
    part.outputs = vec![at];
    part.prune();
    part.insts.iter().filter_map(|i| if let Expr::Input(i) = i.expr { Some(usize::from(i)) } else { None }).collect()
}

/// A rounding to signed bytes of input `i` and vectors alone, behind which the input is not read.
fn border(f: &ScalarFn, i: usize, whole: impl Fn(usize) -> bool) -> Option<u16> {
    (0..f.insts.len() as u16).find(|&at| {
        let inst = f.insts[usize::from(at)];
        let levels = inst.dtype == DType::I8 && matches!(inst.expr, Expr::Cast(_));
        let own = || {
            let read = inputs(f, at);
            read.contains(&i) && read.iter().all(|&e| e == i || !whole(e))
        };
        let rest = || {
            let mut rest = cut(f, at, usize::from(u16::MAX));
            rest.prune();
            rest.insts.iter().all(|s| s.expr != Expr::Input(i as u16))
        };
        levels && !f.outputs.contains(&at) && own() && rest()
    })
}

/// The function with an instruction's result given as an input.
fn cut(f: &ScalarFn, at: u16, input: usize) -> ScalarFn {
    let mut g = f.clone();
    g.insts[usize::from(at)].expr = Expr::Input(input as u16);
    g.prune();
    g
}
