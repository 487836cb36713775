//! Two constants that an epilogue adds to its sum become one: where a residual block changes its width, the bias of the shortcut's convolution
//! meets that of the last.

use super::epilogue::epilogue;
use super::rewrite::Rewrite;
use crate::graph::{Conv, Node, Op, ValueId};
use wpk_plan::{Binary, DType, Expr, ScalarFn};

pub(super) fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    let Some(f) = epilogue(&node.op) else { return Ok(None) };
    // The inputs of a sum's terms that are constants, each read once.
    let constant = |&e: &u16| {
        let v = inputs[1 + usize::from(e)];
        cx.b.graph.literal(v).is_some() && cx.b.dtype(v) == DType::F32
    };
    let constants: Vec<u16> = terms(f).into_iter().filter(constant).collect();
    let alike = |a: u16, b: u16| cx.b.shape(inputs[1 + usize::from(a)]) == cx.b.shape(inputs[1 + usize::from(b)]);
    let pair = constants.iter().enumerate().find_map(|(i, &a)| Some((a, *constants[i + 1..].iter().find(|&&b| alike(a, b))?)));
    let Some((kept, dropped)) = pair else { return Ok(None) };
    let merged = cx.b.binary(Binary::Add, inputs[1 + usize::from(kept)], inputs[1 + usize::from(dropped)])?;
    let mut operands = inputs.to_vec();
    operands[1 + usize::from(kept)] = merged;
    operands.remove(1 + usize::from(dropped));
    let fused = Some(without(f, dropped));
    let op = match node.op.clone() {
        Op::Conv(c) => Op::Conv(Conv { epilogue: fused, ..c }),
        Op::Contract { a, b, out, .. } => Op::Contract { a, b, out, epilogue: fused },
        _ => return Ok(None),
    };
    cx.b.add(op, &operands).map(Some)
}

/// The inputs that are terms of the sum which the product is a term of, where nothing else reads them.
fn terms(f: &ScalarFn) -> Vec<u16> {
    let expr = |x: u16| f.insts[usize::from(x)].expr;
    let reads = |x: u16| {
        let by = f.insts.iter().flat_map(|i| i.expr.operands()).chain(f.outputs.iter().copied());
        by.filter(|&o| o == x).count()
    };
    for root in (0..f.insts.len() as u16).rev().filter(|&i| f.dtype(i) == DType::F32 && matches!(expr(i), Expr::Binary(Binary::Add, ..))) {
        let (mut queue, mut found, mut product) = (vec![root], vec![], false);
        while let Some(x) = queue.pop() {
            match expr(x) {
                Expr::Binary(Binary::Add, p, q) if x == root || reads(x) == 1 => queue.extend([q, p]),
                Expr::Input(0) => product = true,
                Expr::Input(e) if reads(x) == 1 => found.push(e),
                _ => {}
            }
        }
        if product {
            return found;
        }
    }
    vec![]
}

/// A function whose sum does without the term of an input; later inputs move up.
fn without(f: &ScalarFn, input: u16) -> ScalarFn {
    let mut g = ScalarFn::default();
    let mut map: Vec<Option<u16>> = vec![];
    for inst in &f.insts {
        let at = match inst.expr {
            Expr::Input(e) if e == input => None,
            Expr::Input(e) => Some(g.push(Expr::Input(if e > input { e - 1 } else { e }), inst.dtype)),
            Expr::Binary(Binary::Add, x, y) if map[usize::from(x)].is_none() => map[usize::from(y)],
            Expr::Binary(Binary::Add, x, y) if map[usize::from(y)].is_none() => map[usize::from(x)],
            // Only the sum reads the term.
            other => Some(g.push(other.map(|x| map[usize::from(x)].unwrap_or_default()), inst.dtype)),
        };
        map.push(at);
    }
    g.outputs = f.outputs.iter().map(|&o| map[usize::from(o)].unwrap_or_default()).collect();
    g
}
