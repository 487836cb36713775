//! What the normalizations of a sum share, as ONNX Runtime's optimizer writes them.

use super::layer_normalization::normalize;
use super::{Context, Imported};
use wpk_plan::Binary;
use wpk_plan::problem::NormKind;

/// The sum of input, skip and a bias, normalized over the last dimension; the sum is output 3. The scale is input 2, the shift and the bias are
/// inputs of these numbers.
pub(super) fn skip(cx: &mut Context<'_>, kind: NormKind, shift: Option<usize>, bias: usize) -> Imported {
    if cx.wanted.iter().skip(1).take(2).any(|w| *w) {
        return Err("the statistics, outputs 1 and 2, are not computed at inference".into());
    }
    let (x, skip) = (cx.input(0)?, cx.input(1)?);
    let mut sum = cx.b.binary(Binary::Add, x, skip)?;
    if let Some(bias) = cx.optional(bias) {
        sum = cx.b.binary(Binary::Add, sum, bias)?;
    }
    let (scale, shift) = (cx.optional(2), shift.and_then(|i| cx.optional(i)));
    cx.inputs = vec![Some(sum), scale];
    let axis = cx.axis(-1, cx.shape(sum).len())?;
    let epsilon = cx.attrs.float("epsilon").unwrap_or(1e-12);
    let y = normalize(cx, kind, axis, epsilon, shift)?;
    Ok(vec![y, sum, sum, sum])
}
