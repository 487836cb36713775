//! What the tests share: models written as text, and GPU plans in the emulator.
//!
//! A generated `forward` takes the shape the model has, and nothing else compiles:
//!
//! ```
//! wpk::model! { struct Digits = "../examples/digits/models/digits.onnx"; dims = { batch: [1, 2] }; }
//! let digits = Digits::load().unwrap();
//! let one = wpk::Tensor::<f32, wpk::Shape4<1, 1, 8, 8>>::zeros();
//! let two = wpk::Tensor::<f32, wpk::Shape4<2, 1, 8, 8>>::zeros();
//! let a: wpk::Tensor<f32, wpk::Shape2<1, 10>> = digits.forward(&one).unwrap();
//! let b: wpk::Tensor<f32, wpk::Shape2<2, 10>> = digits.forward(&two).unwrap();
//! assert_eq!(a.as_slice(), &b.as_slice()[..10]);
//! ```
//!
//! Another height:
//!
//! ```compile_fail
//! wpk::model! { struct Digits = "../examples/digits/models/digits.onnx"; dims = { batch: [1, 2] }; }
//! let digits = Digits::load().unwrap();
//! let _ = digits.forward(&wpk::Tensor::<f32, wpk::Shape4<1, 1, 9, 8>>::zeros());
//! ```
//!
//! A batch size that was not declared:
//!
//! ```compile_fail
//! wpk::model! { struct Digits = "../examples/digits/models/digits.onnx"; dims = { batch: [1, 2] }; }
//! let digits = Digits::load().unwrap();
//! let _ = digits.forward(&wpk::Tensor::<f32, wpk::Shape4<3, 1, 8, 8>>::zeros());
//! ```
//!
//! Another element type:
//!
//! ```compile_fail
//! wpk::model! { struct Digits = "../examples/digits/models/digits.onnx"; dims = { batch: [1] }; }
//! let digits = Digits::load().unwrap();
//! let _ = digits.forward(&wpk::Tensor::<f64, wpk::Shape4<1, 1, 8, 8>>::zeros());
//! ```

pub mod beside;
pub mod emulated;
pub mod text;
