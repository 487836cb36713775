//! ONNX files: their messages, their tensors, and how they are read. No semantics, no rejection of operators.

mod attribute;
mod external;
mod load;
pub mod proto;
mod tensor;

pub use attribute::Attributes;
pub use load::{Source, load, parse};
pub use tensor::{dtype, literal};
