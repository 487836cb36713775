//! Pointwise functions and data movement.

use super::{Family, Operand, product};
use crate::codec::codec_struct;
use crate::{DType, ScalarFn, View, scalar};

/// `outputs[i] = f(inputs[i])` at every point of a shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// The extents.
    pub shape: Vec<usize>,
    /// The tensors read, each over `shape`.
    pub inputs: Vec<Operand>,
    /// The function.
    pub function: ScalarFn,
    /// The tensors written, each over `shape`.
    pub outputs: Vec<Operand>,
}
codec_struct!(Map { shape, inputs, function, outputs });

impl Family for Map {
    const NAME: &'static str = "map";
    fn inputs(&self) -> Vec<Operand> {
        self.inputs.clone()
    }
    fn outputs(&self) -> Vec<Operand> {
        self.outputs.clone()
    }
    fn describe(&self) -> String {
        format!("{:?} {}", self.shape, self.function)
    }
    fn operations(&self) -> u64 {
        product(&self.shape) * self.function.insts.len() as u64
    }
    fn faults(&self) -> Vec<String> {
        let mut faults = vec![];
        if self.inputs.iter().chain(&self.outputs).any(|o| o.view.shape != self.shape) {
            faults.push("an operand is not over the shape".to_owned());
        }
        if self.function.outputs.len() != self.outputs.len() {
            faults.push("results and outputs differ in number".to_owned());
        }
        faults.extend(scalar::faults(&self.function, self.inputs.len(), self.shape.len()));
        faults
    }
}

/// One block of elements to copy.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Where it is read in the part's own input.
    pub from: View,
    /// Where it is written in the output; the shape equals that of `from`.
    pub to: View,
}
codec_struct!(Part { from, to });

/// Copies blocks into one output: transpose, slice, concatenation, padding.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// The element type, which only its size matters of.
    pub dtype: DType,
    /// The whole output.
    pub out: View,
    /// Written where no part writes: an `f64` for floating types, else the bits of an `i64`. Without it the parts cover the output.
    pub fill: Option<u64>,
    /// The blocks, one per input.
    pub parts: Vec<Part>,
}
codec_struct!(Move { dtype, out, fill, parts });

impl Family for Move {
    const NAME: &'static str = "move";
    fn inputs(&self) -> Vec<Operand> {
        self.parts.iter().map(|p| Operand { dtype: self.dtype, view: p.from.clone() }).collect()
    }
    fn outputs(&self) -> Vec<Operand> {
        vec![Operand { dtype: self.dtype, view: self.out.clone() }]
    }
    fn describe(&self) -> String {
        let parts: Vec<_> = self.parts.iter().map(|p| format!("{:?}", p.from.shape)).collect();
        format!("{} -> {:?}{}", parts.join(" "), self.out.shape, if self.fill.is_some() { " with fill" } else { "" })
    }
    fn operations(&self) -> u64 {
        product(&self.out.shape)
    }
    fn faults(&self) -> Vec<String> {
        let bound = self.out.span().map_or(0, |s| s.1);
        let fits = |p: &Part| p.from.shape == p.to.shape && (p.to.is_empty() || p.to.span().is_some_and(|s| s.1 <= bound));
        if self.parts.iter().all(fits) { vec![] } else { vec!["a part leaves the output".to_owned()] }
    }
}
