//! Scaled dot-product attention.

use super::{Family, Operand, product};
use crate::codec::codec_struct;

/// `softmax(q k^T * scale + mask) v` for every batch and head.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Factor of the scores.
    pub scale: f64,
    /// Whether factors of type `f32` may be rounded to the 11 significant bits of TF32.
    pub tf32: bool,
    /// Queries `[batch, heads, queries, depth]`.
    pub q: Operand,
    /// Keys `[batch, heads, keys, depth]`.
    pub k: Operand,
    /// Values `[batch, heads, keys, value depth]`.
    pub v: Operand,
    /// Added to the scores, `[batch, heads, queries, keys]`, usually broadcast.
    pub mask: Option<Operand>,
    /// The result `[batch, heads, queries, value depth]`.
    pub out: Operand,
}
codec_struct!(Attention { scale, tf32, q, k, v, mask, out });

impl Family for Attention {
    const NAME: &'static str = "attention";
    fn inputs(&self) -> Vec<Operand> {
        [self.q.clone(), self.k.clone(), self.v.clone()].into_iter().chain(self.mask.clone()).collect()
    }
    fn outputs(&self) -> Vec<Operand> {
        vec![self.out.clone()]
    }
    fn describe(&self) -> String {
        let tf32 = if self.tf32 { " tf32" } else { "" };
        format!("{:?} keys {} scale {}{tf32}", self.out.view.shape, self.k.view.shape[2], self.scale)
    }
    fn operations(&self) -> u64 {
        let keys = self.k.view.shape.get(2).copied().unwrap_or(0) as u64;
        2 * keys * (product(&self.q.view.shape) + product(&self.out.view.shape))
    }
    fn faults(&self) -> Vec<String> {
        let [q, k, v, o] = [&self.q, &self.k, &self.v, &self.out].map(|x| x.view.shape.as_slice());
        let ([b, h, s, d], [kb, kh, t, kd], [vb, vh, vt, vd]) = (q, k, v) else {
            return vec!["operands do not have four dimensions".to_owned()];
        };
        let fits = [kb, vb] == [b, b] && [kh, vh] == [h, h] && kd == d && vt == t && o == [*b, *h, *s, *vd];
        let masked = self.mask.as_ref().is_none_or(|m| m.view.shape == [*b, *h, *s, *t]);
        if fits && masked { vec![] } else { vec!["operands differ in shape".to_owned()] }
    }
}
