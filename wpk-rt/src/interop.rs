//! Views and conversions for other crates, behind features.

#[cfg(feature = "ndarray")]
mod with_ndarray {
    use crate::{Element, Error, Shape, Tensor};
    use ndarray::{ArrayView, ArrayViewD, IxDyn};

    impl<T: Element, S: Shape> Tensor<T, S> {
        /// The elements as an `ndarray` view, without a copy.
        pub fn view(&self) -> ArrayViewD<'_, T> {
            // The slice has exactly the elements of the shape, so the fallback is never taken.
            ArrayView::from_shape(IxDyn(S::DIMS), self.as_slice()).unwrap_or_else(|_| ArrayView::from(self.as_slice()).into_dyn())
        }

        /// A copy of an array of the same extents, whatever its strides.
        ///
        /// # Errors
        /// Where the extents differ.
        pub fn from_array<D: ndarray::Dimension>(array: &ArrayView<'_, T, D>) -> Result<Self, Error> {
            if array.shape() != S::DIMS {
                return Err(Error::Mismatch {
                    what: "array".to_owned(),
                    expected: format!("{:?}", S::DIMS),
                    found: format!("{:?}", array.shape()),
                });
            }
            let mut tensor = Self::zeros();
            tensor.as_mut_slice().iter_mut().zip(array.iter()).for_each(|(to, x)| *to = *x);
            Ok(tensor)
        }
    }
}

#[cfg(feature = "image")]
mod with_image {
    use crate::{Error, Shape4, Tensor};
    use image::RgbImage;

    impl<const H: usize, const W: usize> Tensor<f32, Shape4<1, 3, H, W>> {
        /// An RGB image of exactly `W` x `H` pixels as `(value / 255 - mean) / deviation` by channel.
        ///
        /// # Errors
        /// Where the image has another size; resize it first.
        pub fn from_image(image: &RgbImage, mean: [f32; 3], deviation: [f32; 3]) -> Result<Self, Error> {
            if image.dimensions() != (W as u32, H as u32) {
                return Err(Error::Mismatch {
                    what: "image".to_owned(),
                    expected: format!("{W}x{H}"),
                    found: format!("{}x{}", image.width(), image.height()),
                });
            }
            let raw = image.as_raw();
            Ok(Self::from_fn(|i| {
                let (c, pixel) = (i / (H * W), i % (H * W));
                (f32::from(raw[pixel * 3 + c]) / 255.0 - mean[c]) / deviation[c]
            }))
        }
    }
}
