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

#[cfg(test)]
mod tests {
    #[cfg(feature = "ndarray")]
    #[test]
    fn arrays_go_in_and_out() {
        use crate::{Shape2, Tensor};
        let tensor = Tensor::<i32, Shape2<2, 3>>::from_fn(|i| i as i32);
        assert_eq!(tensor.view()[[1, 2]], 5);
        let turned = tensor.view().reversed_axes();
        let back = Tensor::<i32, Shape2<3, 2>>::from_array(&turned).expect("the same extents");
        assert_eq!(back.as_slice(), [0, 3, 1, 4, 2, 5]);
        let error = Tensor::<i32, Shape2<2, 3>>::from_array(&turned).expect_err("other extents");
        assert_eq!(error.to_string(), "array: expected [2, 3], found [3, 2]");
    }

    #[cfg(feature = "image")]
    #[test]
    fn images_become_normalized_planes() {
        use crate::{Shape4, Tensor};
        let image = image::RgbImage::from_fn(2, 1, |x, _| image::Rgb([255, 0, if x == 0 { 51 } else { 0 }]));
        let tensor = Tensor::<f32, Shape4<1, 3, 1, 2>>::from_image(&image, [0.5, 0.0, 0.2], [0.5, 1.0, 0.1]).expect("the size of the type");
        let expected = [1.0, 1.0, 0.0, 0.0, 0.0, -2.0];
        assert!(tensor.as_slice().iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{tensor:?}");
        let error = Tensor::<f32, Shape4<1, 3, 2, 2>>::from_image(&image, [0.0; 3], [1.0; 3]).expect_err("another size");
        assert_eq!(error.to_string(), "image: expected 2x2, found 2x1");
    }

    #[cfg(feature = "half")]
    #[test]
    fn half_precision_elements_keep_their_bits() {
        use crate::{Shape1, Tensor};
        let tensor = Tensor::<half::f16, Shape1<3>>::from_fn(|i| half::f16::from_f32(i as f32 + 0.5));
        assert_eq!(tensor.as_slice()[2].to_f32(), 2.5);
        assert_eq!(tensor.as_bytes().len(), 6);
    }
}
