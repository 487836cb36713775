//! wpk: Woodpecker-DL for Rust, an ahead-of-time compiler for neural networks that runs inside `cargo build`.
//!
//! ```ignore
//! wpk::model! {
//!     pub struct Digits = "models/digits.onnx";
//! }
//! let digits = Digits::load()?;
//! let scores = digits.forward(&image)?;
//! ```
//!
//! Large models are compiled in `build.rs` with `wpk_build::Model` and included with [`include_model!`].

pub use wpk_macros::{include_model, model};
pub use wpk_rt::{
    Bounded, Device, DeviceTensor, Dynamic, Element, Error, Options, Shape, Shape0, Shape1, Shape2, Shape3, Shape4, Shape5, Shape6,
    Submitted, Tensor, Text, WhenBusy, set_threads,
};

#[cfg(feature = "cuda")]
pub use wpk_rt::UserStream;

#[cfg(feature = "half")]
pub use half::{bf16, f16};

/// What generated code uses; no part of the public interface.
#[doc(hidden)]
pub mod __private {
    pub use wpk_rt::plan::VERSION;
    pub use wpk_rt::{CustomFunction, Model, Weights};

    /// A result that the executor did not give.
    pub fn lost() -> wpk_rt::Error {
        wpk_rt::Error::Invalid("a result is missing".to_owned())
    }
}
