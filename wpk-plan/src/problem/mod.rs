//! What one kernel computes, with no word of how.
//!
//! A problem names its operands by [`View`]s, so that transposed, sliced and broadcast tensors need no copies, and its
//! prologue or epilogue by [`ScalarFn`](crate::ScalarFn)s. Its byte encoding is its identity: the key of every tuning record.

mod attention;
mod chain;
mod contraction;
mod custom;
mod index;
mod map;
mod reduce;
mod roles;
mod rows;
mod window;

pub use attention::Attention;
pub use chain::{Chain, Source, Stage};
pub use contraction::{Access, AccessDim, Affine, Contraction};
pub use custom::Custom;
pub use index::{ArgReduce, Gather, GatherElements, GatherNd, Resample, Scan, ScatterElements, ScatterNd, ScatterReduce, TopK};
pub use map::{Map, Move, Part};
pub use reduce::{Reduce, ReduceKind};
pub use roles::{BLOCK, PANEL, Roles};
pub use rows::{NormKind, Normalize, Softmax};
pub use window::{Window, WindowDim, WindowKind};

use crate::codec::{codec_enum, codec_struct};
use crate::{DType, View};

/// A tensor that a problem reads or writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Operand {
    /// The element type.
    pub dtype: DType,
    /// Where its elements lie in the argument.
    pub view: View,
}
codec_struct!(Operand { dtype, view });

impl Operand {
    /// A row-major tensor.
    pub fn dense(dtype: DType, shape: &[usize]) -> Self {
        Self { dtype, view: View::dense(shape) }
    }
}

/// What one kernel computes.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each variant is documented at its type")]
pub enum Problem {
    Contraction(Contraction),
    Map(Map),
    Move(Move),
    Reduce(Reduce),
    Window(Window),
    Softmax(Softmax),
    Normalize(Normalize),
    Attention(Attention),
    Gather(Gather),
    GatherElements(GatherElements),
    GatherNd(GatherNd),
    ScatterElements(ScatterElements),
    ScatterNd(ScatterNd),
    Resample(Resample),
    Scan(Scan),
    TopK(TopK),
    ArgReduce(ArgReduce),
    Chain(Chain),
    Custom(Custom),
}

/// Runs the same expression on whichever family a problem belongs to.
macro_rules! each {
    ($problem:expr, $p:ident => $body:expr) => {
        match $problem {
            Problem::Contraction($p) => $body,
            Problem::Map($p) => $body,
            Problem::Move($p) => $body,
            Problem::Reduce($p) => $body,
            Problem::Window($p) => $body,
            Problem::Softmax($p) => $body,
            Problem::Normalize($p) => $body,
            Problem::Attention($p) => $body,
            Problem::Gather($p) => $body,
            Problem::GatherElements($p) => $body,
            Problem::GatherNd($p) => $body,
            Problem::ScatterElements($p) => $body,
            Problem::ScatterNd($p) => $body,
            Problem::Resample($p) => $body,
            Problem::Scan($p) => $body,
            Problem::TopK($p) => $body,
            Problem::ArgReduce($p) => $body,
            Problem::Chain($p) => $body,
            Problem::Custom($p) => $body,
        }
    };
}

codec_enum!(Problem {
    0 => Contraction(p),
    1 => Map(p),
    2 => Move(p),
    3 => Reduce(p),
    4 => Window(p),
    5 => Softmax(p),
    6 => Normalize(p),
    7 => Attention(p),
    8 => Gather(p),
    9 => GatherElements(p),
    10 => GatherNd(p),
    11 => ScatterElements(p),
    12 => ScatterNd(p),
    13 => Resample(p),
    14 => Scan(p),
    15 => TopK(p),
    16 => ArgReduce(p),
    17 => Chain(p),
    18 => Custom(p),
});

/// What every family of problems tells about itself.
pub trait Family {
    /// The family's name in text forms and records.
    const NAME: &'static str;
    /// The tensors read, in argument order.
    fn inputs(&self) -> Vec<Operand>;
    /// The tensors written, in argument order after the inputs.
    fn outputs(&self) -> Vec<Operand>;
    /// A one-line description without the operands.
    fn describe(&self) -> String;
    /// Scalar operations, counting a multiply-add as two.
    fn operations(&self) -> u64;
    /// Faults of the problem itself, beyond those of its operands.
    fn faults(&self) -> Vec<String> {
        vec![]
    }
}

impl Problem {
    /// The family's name.
    pub fn family(&self) -> &'static str {
        fn name<F: Family>(_: &F) -> &'static str {
            F::NAME
        }
        each!(self, p => name(p))
    }
    /// The tensors read, in argument order.
    pub fn inputs(&self) -> Vec<Operand> {
        each!(self, p => p.inputs())
    }
    /// The product whose second factor an operand is, in the layout of the step.
    pub fn packed(&self, operand: usize) -> Option<&Contraction> {
        match self {
            Self::Contraction(c) => (operand == 1).then_some(c),
            Self::Chain(chain) => {
                let (_, stage) = chain.packed().into_iter().find(|p| p.0 == operand)?;
                chain.stages[stage].problem.packed(1)
            }
            _ => None,
        }
    }
    /// The tensors written, in argument order after the inputs.
    pub fn outputs(&self) -> Vec<Operand> {
        each!(self, p => p.outputs())
    }
    /// A one-line description without the operands.
    pub fn describe(&self) -> String {
        each!(self, p => p.describe())
    }
    /// Bytes that come from memory and go there at least: what operands hold, once, and of a table that is looked up no more than is found.
    pub fn bytes(&self) -> u64 {
        let held = |o: &Operand| {
            let moving = o.view.shape.iter().zip(&o.view.strides).filter(|(_, stride)| **stride != 0);
            moving.map(|(&n, _)| n as u64).product::<u64>() * o.dtype.bytes() as u64
        };
        let written: u64 = self.outputs().iter().map(held).sum();
        let looked_up = matches!(self, Self::Gather(_) | Self::GatherElements(_) | Self::GatherNd(_));
        let inputs = self.inputs();
        let read = inputs.iter().enumerate().map(|(i, o)| if looked_up && i == 0 { held(o).min(written) } else { held(o) });
        read.sum::<u64>() + written
    }
    /// Scalar operations, counting a multiply-add as two.
    pub fn operations(&self) -> u64 {
        each!(self, p => p.operations())
    }
    /// Faults of the problem itself, beyond those of its operands.
    pub fn faults(&self) -> Vec<String> {
        each!(self, p => p.faults())
    }
}

fn product(shape: &[usize]) -> u64 {
    shape.iter().map(|&n| n as u64).product()
}
