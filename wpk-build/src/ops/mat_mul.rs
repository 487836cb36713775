//! [MatMul](https://onnx.ai/onnx/operators/onnx__MatMul.html): matrix product with the rules of numpy.

use super::Refusal;
use super::{Context, Imported, OpDef};
use crate::graph::{Op, ValueId, broadcast};

pub(super) const OP: OpDef = OpDef { name: "MatMul", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    Ok(vec![matmul(cx, a, b)?])
}

/// The product; batch dimensions broadcast, vectors count as one row or column and lose it again.
pub(super) fn matmul(cx: &mut Context<'_>, mut a: ValueId, mut b: ValueId) -> Result<ValueId, Refusal> {
    let (sa, sb) = (cx.shape(a), cx.shape(b));
    if sa.is_empty() || sb.is_empty() {
        return Err("a factor has no dimension".into());
    }
    let row = sa.len() == 1;
    let column = sb.len() == 1;
    let (sa, sb) = (if row { vec![1, sa[0]] } else { sa }, if column { vec![sb[0], 1] } else { sb });
    let (ba, bb) = (&sa[..sa.len() - 2], &sb[..sb.len() - 2]);
    let batch = broadcast(&[ba, bb]).map_err(|_| format!("matrices of {sa:?} and {sb:?} do not match"))?;
    let (m, k, n) = (batch.len() as u8, batch.len() as u8 + 1, batch.len() as u8 + 2);
    // A batch dimension of extent 1 that broadcasts gets no label: the factor does not move along it.
    let side = |own: &[usize], last: [(u8, usize); 2]| {
        let lead = batch.len() - own.len();
        let kept: Vec<(u8, usize)> =
            own.iter().enumerate().filter(|&(d, &e)| e == batch[lead + d]).map(|(d, &e)| ((lead + d) as u8, e)).collect();
        kept.into_iter().chain(last).unzip::<u8, usize, Vec<u8>, Vec<usize>>()
    };
    let (la, ea) = side(ba, [(m, sa[sa.len() - 2]), (k, sa[sa.len() - 1])]);
    let (lb, eb) = side(bb, [(k, sb[sb.len() - 2]), (n, sb[sb.len() - 1])]);
    a = cx.b.reshape(a, &ea)?;
    b = cx.b.reshape(b, &eb)?;
    let mut out: Vec<u8> = (0..m).collect();
    out.extend([m, n]);
    let mut y = cx.b.one(Op::Contract { a: la, b: lb, out, epilogue: None }, &[a, b])?;
    let mut shape = batch.clone();
    shape.extend((!row).then_some(sa[sa.len() - 2]));
    shape.extend((!column).then_some(sb[sb.len() - 1]));
    if row || column {
        y = cx.b.reshape(y, &shape)?;
    }
    Ok(y)
}
