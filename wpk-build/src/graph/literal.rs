//! Constants.

use bytes::Bytes;
use wpk_kernels::Tensor;
use wpk_plan::DType;

/// A dense constant of little-endian elements, shared with the file it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal {
    /// The element type.
    pub dtype: DType,
    /// The extents.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Bytes,
}

impl Literal {
    /// From evaluated elements.
    pub fn new(tensor: &Tensor, shape: &[usize]) -> Self {
        Self { dtype: tensor.dtype, shape: shape.to_vec(), bytes: Bytes::from(tensor.to_bytes()) }
    }

    /// Integers.
    pub fn ints(dtype: DType, shape: &[usize], data: &[i64]) -> Self {
        Self::new(&Tensor::ints(dtype, data.to_vec()), shape)
    }

    /// Floating values.
    pub fn floats(dtype: DType, shape: &[usize], data: &[f64]) -> Self {
        Self::new(&Tensor::floats(dtype, data.to_vec()), shape)
    }

    /// The elements, widened.
    pub fn tensor(&self) -> Tensor {
        Tensor::from_bytes(self.dtype, &self.bytes)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The only element.
    pub fn scalar(&self) -> Option<f64> {
        (self.len() == 1).then(|| self.tensor().f(0))
    }

    /// The elements as integers.
    pub fn to_ints(&self) -> Vec<i64> {
        let tensor = self.tensor();
        (0..tensor.len()).map(|i| tensor.i(i)).collect()
    }

    /// The elements as floating values.
    pub fn to_floats(&self) -> Vec<f64> {
        let tensor = self.tensor();
        (0..tensor.len()).map(|i| tensor.f(i)).collect()
    }
}
