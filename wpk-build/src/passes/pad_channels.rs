//! Few channels become four, the fourth zero: tensor cores read the depth in pieces of a size, which a pixel then is.

use super::rewrite::Rewrite;
use crate::graph::{Node, Op, ValueId};

/// Channels of a piece.
const PIECE: usize = 4;

pub(super) fn rule(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    let Op::Conv(conv) = &node.op else { return Ok(None) };
    let (rank, x, w) = (conv.out.len(), cx.b.shape(inputs[0]), cx.b.shape(inputs[1]));
    let channels = x[x.len() - 1];
    let fits = conv.channels_last && conv.groups == 1 && !conv.transposed && (2..PIECE).contains(&channels);
    if !fits || cx.b.graph.literal(inputs[1]).is_none() {
        return Ok(None);
    }
    let mut zeros = x.clone();
    zeros[rank + 1] = PIECE - channels;
    let zero = cx.b.scalar(0.0, cx.b.dtype(inputs[0]));
    let zero = cx.b.one(Op::Expand(zeros), &[zero])?;
    let padded = cx.b.one(Op::Concat(rank + 1), &[inputs[0], zero])?;
    let mut after = vec![0; w.len()];
    after[1] = PIECE - channels;
    let weights = cx.b.one(Op::Pad { before: vec![0; w.len()], after, fill: 0 }, &[inputs[1]])?;
    let operands = [&[padded, weights], &inputs[2..]].concat();
    cx.b.add(node.op.clone(), &operands).map(Some)
}
