//! The compiler: ONNX -> graph -> problems -> plan -> Rust.
//!
//! In `build.rs`:
//!
//! ```no_run
//! wpk_build::Model::new("models/resnet50.onnx").name("ResNet50").dim("batch", [1, 8]).compile().ok();
//! ```
//!
//! and in the crate `wpk::include_model!("ResNet50");`. It never measures and knows no GPU.

mod codegen;
pub mod covers;
pub mod custom;
pub mod diag;
mod emit;
mod env;
pub mod gradient;
pub mod graph;
pub mod hash;
pub mod import;
pub mod lower;
mod model;
pub mod onnx;
pub mod ops;
pub mod passes;
pub mod quantized;
mod ranges;
pub mod records;
mod scalar;
pub mod tuning;

pub use codegen::field_names;
pub use diag::{Diag, Diags};
pub use emit::Report;
pub use graph::Literal;
pub use model::{Compiled, Model, Precision, Untuned, WeightPlace};
