//! The compiler: ONNX -> graph -> problems -> plan -> Rust.

pub mod diag;
pub mod graph;
pub mod hash;
pub mod import;
pub mod lower;
pub mod onnx;
pub mod ops;
pub mod passes;
mod scalar;
