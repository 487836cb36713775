//! Flat tensors of wide elements.

use half::{bf16, f16};
use wpk_plan::DType;
use wpk_plan::minifloat::Format;

/// Elements in the widest type of their class.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Floating types.
    Float(Vec<f64>),
    /// Integers and booleans; `U64` as its bit pattern.
    Int(Vec<i64>),
}

/// A flat buffer of elements; `dtype` is the type they stand for.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The element type.
    pub dtype: DType,
    /// The elements.
    pub data: Data,
}

/// Whether results are rounded to their type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To the element type after every problem.
    ToType,
    /// Never: floating values stay `f64`.
    Never,
}

impl Tensor {
    /// Zeros.
    pub fn zeros(dtype: DType, len: usize) -> Self {
        let data = if dtype.is_float() { Data::Float(vec![0.0; len]) } else { Data::Int(vec![0; len]) };
        Self { dtype, data }
    }

    /// Makes every number one that is not known.
    pub fn unknown(&mut self) {
        if let Data::Float(x) = &mut self.data {
            x.fill(f64::NAN);
        }
    }

    /// Integers of the given type.
    pub fn ints(dtype: DType, data: Vec<i64>) -> Self {
        Self { dtype, data: Data::Int(data) }
    }

    /// Floating values of the given type.
    pub fn floats(dtype: DType, data: Vec<f64>) -> Self {
        Self { dtype, data: Data::Float(data) }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::Float(x) => x.len(),
            Data::Int(x) => x.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element as a floating value.
    pub fn f(&self, i: usize) -> f64 {
        match &self.data {
            Data::Float(x) => x[i],
            Data::Int(x) => x[i] as f64,
        }
    }

    /// An element as an integer.
    pub fn i(&self, i: usize) -> i64 {
        match &self.data {
            Data::Float(x) => x[i] as i64,
            Data::Int(x) => x[i],
        }
    }

    /// Copies one element of a tensor of the same class.
    pub fn set(&mut self, at: usize, from: &Tensor, i: usize) {
        match (&mut self.data, &from.data) {
            (Data::Float(to), _) => to[at] = from.f(i),
            (Data::Int(to), _) => to[at] = from.i(i),
        }
    }

    /// The elements at some offsets.
    pub fn select(&self, offsets: impl Iterator<Item = usize>) -> Tensor {
        let data = match &self.data {
            Data::Float(x) => Data::Float(offsets.map(|o| x[o]).collect()),
            Data::Int(x) => Data::Int(offsets.map(|o| x[o]).collect()),
        };
        Tensor { dtype: self.dtype, data }
    }

    /// Reads little-endian elements.
    pub fn from_bytes(dtype: DType, bytes: &[u8]) -> Self {
        fn each<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
            bytes.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
        }
        let data = match dtype {
            DType::F32 => Data::Float(each(bytes, |b| f64::from(f32::from_le_bytes(b)))),
            DType::F16 => Data::Float(each(bytes, |b| f16::from_le_bytes(b).to_f64())),
            DType::BF16 => Data::Float(each(bytes, |b| bf16::from_le_bytes(b).to_f64())),
            DType::F64 => Data::Float(each(bytes, f64::from_le_bytes)),
            DType::I64 | DType::U64 => Data::Int(each(bytes, i64::from_le_bytes)),
            DType::I32 => Data::Int(each(bytes, |b| i64::from(i32::from_le_bytes(b)))),
            DType::U32 => Data::Int(each(bytes, |b| i64::from(u32::from_le_bytes(b)))),
            DType::I16 => Data::Int(each(bytes, |b| i64::from(i16::from_le_bytes(b)))),
            DType::U16 => Data::Int(each(bytes, |b| i64::from(u16::from_le_bytes(b)))),
            DType::I8 => Data::Int(each(bytes, |b| i64::from(i8::from_le_bytes(b)))),
            DType::U8 => Data::Int(each(bytes, |b| i64::from(u8::from_le_bytes(b)))),
            DType::Bool => Data::Int(each(bytes, |b: [u8; 1]| i64::from(b[0] != 0))),
            // Text is only copied and compared: its bytes one by one.
            DType::Text => Data::Int(each(bytes, |b: [u8; 1]| i64::from(b[0]))),
            t => match Format::of(t) {
                Some(format) => Data::Float(each(bytes, |b: [u8; 1]| format.decode(b[0]))),
                None => Data::Int(each(bytes, |b: [u8; 1]| t.wrap(i64::from(b[0])))),
            },
        };
        Self { dtype, data }
    }

    /// Writes little-endian elements of the tensor's type.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() * self.dtype.bytes());
        match &self.data {
            Data::Float(x) => x.iter().for_each(|&x| match self.dtype {
                DType::F16 => out.extend(f16::from_f64(x).to_le_bytes()),
                DType::BF16 => out.extend(bf16::from_f64(x).to_le_bytes()),
                DType::F64 => out.extend(x.to_le_bytes()),
                t => match Format::of(t) {
                    Some(format) => out.push(format.encode(x)),
                    None => out.extend((x as f32).to_le_bytes()),
                },
            }),
            Data::Int(x) if self.dtype == DType::Text => out.extend(x.iter().map(|&x| x as u8)),
            Data::Int(x) => x.iter().for_each(|x| out.extend(&x.to_le_bytes()[..self.dtype.bytes()])),
        }
        out
    }

    /// Rounds floating values to the type; integers are always in range.
    pub(crate) fn round(&mut self, rounding: Rounding) {
        let Data::Float(x) = &mut self.data else { return };
        match self.dtype {
            _ if rounding == Rounding::Never => {}
            DType::F16 => x.iter_mut().for_each(|x| *x = f16::from_f64(*x).to_f64()),
            DType::BF16 => x.iter_mut().for_each(|x| *x = bf16::from_f64(*x).to_f64()),
            DType::F32 => x.iter_mut().for_each(|x| *x = f64::from(*x as f32)),
            t => {
                if let Some(format) = Format::of(t) {
                    x.iter_mut().for_each(|x| *x = format.round(*x));
                }
            }
        }
    }
}
