//! Functions of whole rows: softmax and normalization.

use super::{Family, Operand, product};
use crate::codec::{codec_struct, unit_enum};

/// Exponentials over their sum along the last dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct Softmax {
    /// Whether the logarithm of the result is wanted.
    pub log: bool,
    /// The tensor read, rows along its last dimension.
    pub input: Operand,
    /// The tensor written.
    pub output: Operand,
}
codec_struct!(Softmax { log, input, output });

impl Family for Softmax {
    const NAME: &'static str = "softmax";
    fn inputs(&self) -> Vec<Operand> {
        vec![self.input.clone()]
    }
    fn outputs(&self) -> Vec<Operand> {
        vec![self.output.clone()]
    }
    fn describe(&self) -> String {
        format!("{}{:?}", if self.log { "log " } else { "" }, self.input.view.shape)
    }
    fn operations(&self) -> u64 {
        5 * product(&self.input.view.shape)
    }
    fn faults(&self) -> Vec<String> {
        same_shape(&self.input, &self.output)
    }
}

unit_enum! {
    /// Which statistics a row is normalized by.
    NormKind {
        /// Mean and variance.
        Layer = "layer",
        /// Mean of squares.
        Rms = "rms",
    }
}

/// `(x - mean) / sqrt(variance + epsilon) * scale + bias` along the last dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalize {
    /// Which statistics.
    pub kind: NormKind,
    /// Added to the variance.
    pub epsilon: f64,
    /// The tensor read, rows along its last dimension.
    pub input: Operand,
    /// Added to the input before anything else (a residual), and the sum's copy where it is wanted.
    pub residual: Option<(Operand, Option<Operand>)>,
    /// Factor, broadcast over the input.
    pub scale: Option<Operand>,
    /// Summand, broadcast over the input.
    pub bias: Option<Operand>,
    /// The tensor written.
    pub output: Operand,
}
codec_struct!(Normalize { kind, epsilon, input, residual, scale, bias, output });

impl Family for Normalize {
    const NAME: &'static str = "normalize";
    fn inputs(&self) -> Vec<Operand> {
        let residual = self.residual.iter().map(|r| r.0.clone());
        [self.input.clone()].into_iter().chain(residual).chain(self.scale.clone()).chain(self.bias.clone()).collect()
    }
    fn outputs(&self) -> Vec<Operand> {
        [self.output.clone()].into_iter().chain(self.residual.iter().filter_map(|r| r.1.clone())).collect()
    }
    fn describe(&self) -> String {
        format!(
            "{} {:?} epsilon {}{}",
            self.kind,
            self.input.view.shape,
            self.epsilon,
            if self.residual.is_some() { " of a sum" } else { "" }
        )
    }
    fn operations(&self) -> u64 {
        8 * product(&self.input.view.shape)
    }
    fn faults(&self) -> Vec<String> {
        self.inputs().iter().chain(&self.outputs()).flat_map(|o| same_shape(&self.input, o)).collect()
    }
}

fn same_shape(a: &Operand, b: &Operand) -> Vec<String> {
    if a.view.shape == b.view.shape && !a.view.shape.is_empty() { vec![] } else { vec!["operands differ in shape".to_owned()] }
}
