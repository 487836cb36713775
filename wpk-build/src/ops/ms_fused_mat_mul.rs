//! [com.microsoft::FusedMatMul](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.FusedMatMul): a matrix product of factors that may be transposed, scaled.

use super::mat_mul::matmul;
use super::{Context, Imported, OpDef, Refusal};
use crate::graph::ValueId;
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "com.microsoft::FusedMatMul", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let a = factor(cx, 0, "transA", "transBatchA")?;
    let b = factor(cx, 1, "transB", "transBatchB")?;
    let y = matmul(cx, a, b)?;
    let alpha = cx.attrs.float("alpha").unwrap_or(1.0);
    let alpha = cx.b.scalar(alpha, cx.dtype(y));
    Ok(vec![cx.b.binary(Binary::Mul, y, alpha)?])
}

/// A factor with its last two dimensions exchanged, and its first brought before them, where the node says so.
fn factor(cx: &mut Context<'_>, i: usize, transposed: &str, batch: &str) -> Result<ValueId, Refusal> {
    let v = cx.input(i)?;
    let rank = cx.shape(v).len();
    let mut perm: Vec<usize> = (0..rank).collect();
    if rank >= 2 && cx.attrs.flag(batch, false) {
        perm[..rank - 1].rotate_left(1);
    }
    if rank >= 2 && cx.attrs.flag(transposed, false) {
        perm.swap(rank - 2, rank - 1);
    }
    Ok(cx.b.transpose(v, &perm)?)
}
