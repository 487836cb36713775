//! Constants.

use crate::quantized::Quantized;
use bytes::Bytes;
use half::{bf16, f16};
use std::sync::Arc;
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
    /// The bytes it was made of, where it was.
    pub quantized: Option<Arc<Quantized>>,
}

impl Literal {
    /// From little-endian elements.
    pub fn dense(dtype: DType, shape: &[usize], bytes: impl Into<Bytes>) -> Self {
        Self { dtype, shape: shape.to_vec(), bytes: bytes.into(), quantized: None }
    }

    /// From evaluated elements.
    pub fn new(tensor: &Tensor, shape: &[usize]) -> Self {
        Self::dense(tensor.dtype, shape, tensor.to_bytes())
    }

    /// Integers.
    pub fn ints(dtype: DType, shape: &[usize], data: &[i64]) -> Self {
        Self::new(&Tensor::ints(dtype, data.to_vec()), shape)
    }

    /// Floating values.
    pub fn floats(dtype: DType, shape: &[usize], data: &[f64]) -> Self {
        Self::new(&Tensor::floats(dtype, data.to_vec()), shape)
    }

    /// Text.
    ///
    /// # Errors
    /// Where an element is longer than 63 bytes, or holds a zero byte.
    pub fn text(shape: &[usize], data: &[&str]) -> Result<Self, String> {
        let size = DType::Text.bytes();
        let mut bytes = vec![];
        for (i, s) in data.iter().enumerate() {
            if s.len() >= size || s.contains('\0') {
                return Err(format!("{s:?} is no text of at most {} bytes", size - 1));
            }
            bytes.extend_from_slice(s.as_bytes());
            bytes.resize((i + 1) * size, 0);
        }
        Ok(Self::dense(DType::Text, shape, bytes))
    }

    /// The elements of text.
    pub fn to_texts(&self) -> Vec<String> {
        let elements = self.bytes.chunks(DType::Text.bytes());
        elements.map(|e| String::from_utf8_lossy(e).trim_end_matches('\0').to_owned()).collect()
    }

    /// Floating elements in another type of at most 32 bits, made of the same levels.
    pub fn narrowed(&self, dtype: DType) -> Self {
        let floats = self.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        let bytes: Vec<u8> = match (self.dtype, dtype) {
            (DType::F32, DType::F16) => floats.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
            (DType::F32, DType::BF16) => floats.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
            _ => {
                let mut tensor = self.tensor();
                tensor.dtype = dtype;
                tensor.to_bytes()
            }
        };
        Self { quantized: self.quantized.clone(), ..Self::dense(dtype, &self.shape, bytes) }
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
