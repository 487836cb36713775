//! Kernels as syntax trees of PTX: built by the DSL, printed for the driver, verified, and executed by the emulator.

mod ast;
pub(crate) mod dependents;
mod groups;
mod print;
mod types;
mod verify;

pub use ast::{GroupRows, Kernel, Op, Stmt};
pub use types::{Cmp, Factor, Half, MemTy, Operand, Reg, Space, Special, Ty};
