//! Pooling: reductions over sliding windows.

use super::{Family, Operand, product};
use crate::codec::{codec_struct, unit_enum};

unit_enum! {
    /// How a window's elements are combined.
    WindowKind {
        /// The largest.
        Max = "max",
        /// Their sum, over a count: see [`Window::count_pad`].
        Mean = "mean",
        /// Their sum.
        Sum = "sum",
    }
}

/// How a window moves along one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowDim {
    /// Elements in the window.
    pub size: usize,
    /// Elements from one window to the next.
    pub stride: usize,
    /// Elements between neighbours in the window.
    pub dilation: usize,
    /// Elements of padding before the first.
    pub pad: usize,
    /// Elements of padding after the last.
    pub pad_end: usize,
}
codec_struct!(WindowDim { size, stride, dilation, pad, pad_end });

/// Combines the elements in a window at every output point; padding takes no part.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// How.
    pub kind: WindowKind,
    /// The window, by dimension of the input.
    pub dims: Vec<WindowDim>,
    /// Whether a mean counts padding (but never what lies beyond it).
    pub count_pad: bool,
    /// The tensor read.
    pub input: Operand,
    /// The tensor written, of the same rank.
    pub output: Operand,
    /// For maxima: where each was found, as a row-major index into the logical input.
    pub indices: Option<Operand>,
}
codec_struct!(Window { kind, dims, count_pad, input, output, indices });

impl Family for Window {
    const NAME: &'static str = "window";
    fn inputs(&self) -> Vec<Operand> {
        vec![self.input.clone()]
    }
    fn outputs(&self) -> Vec<Operand> {
        [self.output.clone()].into_iter().chain(self.indices.clone()).collect()
    }
    fn describe(&self) -> String {
        let sizes: Vec<usize> = self.dims.iter().map(|d| d.size).collect();
        format!("{} {:?} -> {:?} window {sizes:?}", self.kind, self.input.view.shape, self.output.view.shape)
    }
    fn operations(&self) -> u64 {
        product(&self.output.view.shape) * self.dims.iter().map(|d| d.size as u64).product::<u64>()
    }
    fn faults(&self) -> Vec<String> {
        let rank = self.input.view.shape.len();
        let ranks = [self.dims.len(), self.output.view.shape.len()];
        if ranks.iter().any(|&r| r != rank) || self.dims.iter().any(|d| d.size == 0 || d.stride == 0 || d.dilation == 0) {
            return vec!["the window does not fit its operands".to_owned()];
        }
        vec![]
    }
}
