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
//! A range of sizes takes tensors whose extents are known at run time:
//!
//! ```
//! wpk::model! { struct Digits = "../examples/digits/models/digits.onnx"; dims = { batch: 1..=4 }; }
//! let digits = Digits::load().unwrap();
//! let images = |n: usize| wpk::Dynamic::from_fn(&[n, 1, 8, 8], |i| (i % 17) as f32);
//! let scores: wpk::Dynamic<f32> = digits.forward(&images(3)).unwrap();
//! assert_eq!(scores.shape(), [3, 10]);
//! assert_eq!(digits.forward(&images(1)).unwrap().as_slice(), &scores.as_slice()[..10]);
//! let error = digits.forward(&images(5)).unwrap_err().to_string();
//! assert!(error.ends_with("dimension \"batch\": expected 1 to 4, found 5"), "{error}");
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
pub mod passes;
pub mod ranges;
pub mod text;
