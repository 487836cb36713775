//! Reductions over whole dimensions.

use super::{Family, Operand, product};
use crate::codec::{codec_struct, unit_enum};

unit_enum! {
    /// How elements are combined.
    ReduceKind {
        /// Sum.
        Sum = "sum",
        /// Sum over the count.
        Mean = "mean",
        /// Largest.
        Max = "max",
        /// Smallest.
        Min = "min",
        /// Product.
        Prod = "prod",
        /// Sum of absolute values.
        SumAbs = "sum_abs",
        /// Sum of squares.
        SumSquare = "sum_square",
    }
}

/// Combines every element along the dimensions whose output extent is 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Reduce {
    /// How.
    pub kind: ReduceKind,
    /// The tensor read.
    pub input: Operand,
    /// Whether each dimension is reduced.
    pub axes: Vec<bool>,
    /// The tensor written, of the same rank.
    pub output: Operand,
}
codec_struct!(Reduce { kind, input, axes, output });

impl Family for Reduce {
    const NAME: &'static str = "reduce";
    fn inputs(&self) -> Vec<Operand> {
        vec![self.input.clone()]
    }
    fn outputs(&self) -> Vec<Operand> {
        vec![self.output.clone()]
    }
    fn describe(&self) -> String {
        format!("{} {:?} -> {:?}", self.kind, self.input.view.shape, self.output.view.shape)
    }
    fn operations(&self) -> u64 {
        product(&self.input.view.shape)
    }
    fn faults(&self) -> Vec<String> {
        let (i, o) = (&self.input.view.shape, &self.output.view.shape);
        let fits = i.len() == o.len()
            && i.len() == self.axes.len()
            && i.iter().zip(o).zip(&self.axes).all(|((&i, &o), &r)| o == if r { 1 } else { i });
        if fits { vec![] } else { vec!["the output does not have the reduced shape".to_owned()] }
    }
}
