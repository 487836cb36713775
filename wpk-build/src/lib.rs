//! The compiler: ONNX -> graph -> problems -> plan -> Rust.

pub mod diag;
pub mod graph;
pub mod lower;
pub mod onnx;
mod scalar;
