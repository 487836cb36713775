//! Few channels become four, the fourth zero: tensor cores read the depth in pieces of a size, which a pixel then is. Kernels that read
//! pixels channel by channel take them as they are, by weights for four. Strict `f32` is left alone: its kernels read single channels from where
//! they lie in less time than a copy of the image and a third more of depth would take.

use super::rewrite::Rewrite;
use crate::graph::{Conv, Node, Op, ValueId};

/// Channels of a piece.
const PIECE: usize = 4;

/// For tensor cores that take half types.
pub(super) fn half(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    padded(cx, node, inputs, 2)
}

/// For tensor cores that take TF32.
pub(super) fn tf32(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId]) -> Result<Option<Vec<ValueId>>, String> {
    padded(cx, node, inputs, 4)
}

/// `element` is the bytes of what tensor cores take.
fn padded(cx: &mut Rewrite<'_>, node: &Node, inputs: &[ValueId], element: usize) -> Result<Option<Vec<ValueId>>, String> {
    let Op::Conv(conv) = &node.op else { return Ok(None) };
    let (rank, x, w) = (conv.out.len(), cx.b.shape(inputs[0]), cx.b.shape(inputs[1]));
    let channels = x[x.len() - 1];
    let fits = conv.channels_last && conv.groups == 1 && !conv.transposed && (2..PIECE).contains(&channels);
    if !fits || cx.keeps_fp32(&node.origin) || cx.b.graph.literal(inputs[1]).is_none() || channels != w[1] {
        return Ok(None);
    }
    let pixels = if read_by_pixel(conv, &w, element) {
        inputs[0]
    } else {
        let mut zeros = x.clone();
        zeros[rank + 1] = PIECE - channels;
        let zero = cx.b.scalar(0.0, cx.b.dtype(inputs[0]));
        let zero = cx.b.one(Op::Expand(zeros), &[zero])?;
        cx.b.one(Op::Concat(rank + 1), &[inputs[0], zero])?
    };
    let mut after = vec![0; w.len()];
    after[1] = PIECE - channels;
    let weights = cx.b.one(Op::Pad { before: vec![0; w.len()], after, fill: 0 }, &[inputs[1]])?;
    let operands = [&[pixels, weights], &inputs[2..]].concat();
    cx.b.add(node.op.clone(), &operands).map(Some)
}

/// Whether a kernel reads the windows' pixels channel by channel: windows overlap, neighbours begin whole pieces of 16 bytes apart, and
/// the pixels of a row are neighbours.
fn read_by_pixel(conv: &Conv, w: &[usize], element: usize) -> bool {
    let (strides, dilations) = (&conv.strides, &conv.dilations);
    let overlap = |d: usize| strides[d] <= (w[2 + d] - 1) * dilations[d];
    strides.len() == 2 && (0..2).all(overlap) && dilations[1] == 1 && (PIECE * element * strides[1]).is_multiple_of(16)
}
