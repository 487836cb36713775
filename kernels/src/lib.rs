//! What kernels mean, and how they are generated.
//!
//! [`eval()`] is the definition of every [`Problem`](wpk_plan::Problem): plain loops over `f64` and `i64`. The compiler folds
//! constants with it, and every faster implementation is tested against it.
//!
//! [`family`] turns a problem and a schedule into a [`ptx::Kernel`], which prints as PTX, verifies itself, and runs in the
//! [`emulate`] module. The crate is pure: no IO, no clock, no GPU.

#![forbid(unsafe_code)]

pub mod arch;
pub mod dsl;
pub mod emulate;
mod eval;
pub mod family;
pub mod layout;
pub mod library;
pub mod ptx;
pub mod schedule;

pub use eval::{Data, Rounding, Tensor, eval, scalar};
