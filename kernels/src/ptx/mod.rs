//! Kernels as syntax trees of PTX: built by the DSL, printed for the driver, verified, and executed by the emulator.

mod ast;
pub(crate) mod dependents;
mod groups;
mod print;
mod verify;

pub use ast::{Cmp, Factor, Half, Kernel, MemTy, Op, Operand, Reg, Space, Special, Stmt, Ty};
