//! Operators of the user's: their meaning is a function that the application links, or a kernel that the plan holds.

use super::{Family, Operand};
use crate::DType;
use crate::codec::codec_struct;

/// A call of a function of the user's. All operands are dense.
#[derive(Debug, Clone, PartialEq)]
pub struct Custom {
    /// The operator, as `domain::Type`.
    pub name: String,
    /// The function's symbol, which tells its source and what it is specialized for.
    pub symbol: String,
    /// Element types and extents of what it reads.
    pub reads: Vec<(DType, Vec<usize>)>,
    /// Element types and extents of what it writes.
    pub writes: Vec<(DType, Vec<usize>)>,
}
codec_struct!(Custom { name, symbol, reads, writes });

fn dense(list: &[(DType, Vec<usize>)]) -> Vec<Operand> {
    list.iter().map(|(dtype, shape)| Operand::dense(*dtype, shape)).collect()
}

impl Family for Custom {
    const NAME: &'static str = "custom";
    fn inputs(&self) -> Vec<Operand> {
        dense(&self.reads)
    }
    fn outputs(&self) -> Vec<Operand> {
        dense(&self.writes)
    }
    fn describe(&self) -> String {
        let list = |all: &[(DType, Vec<usize>)]| all.iter().map(|(t, s)| format!("{t}{s:?}")).collect::<Vec<_>>().join(", ");
        format!("{} {} -> {}", self.name, list(&self.reads), list(&self.writes))
    }
    fn operations(&self) -> u64 {
        self.writes.iter().map(|w| w.1.iter().product::<usize>() as u64).sum()
    }
}
