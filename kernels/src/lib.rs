//! What kernels mean, and (to come) how they are generated.
//!
//! [`eval()`] is the definition of every [`Problem`](wpk_plan::Problem): plain loops over `f64` and `i64`. The compiler folds
//! constants with it, and every faster implementation is tested against it. The crate is pure: no IO, no clock, no GPU.

#![forbid(unsafe_code)]

mod eval;

pub use eval::{Data, Rounding, Tensor, eval, scalar};
