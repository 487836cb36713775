//! Sums of products over affine accesses: matrix products, convolutions and their transposes, einsum.

use super::{Family, Operand, product};
use crate::codec::{Codec, DecodeError, Reader, codec_struct};
use crate::{DType, ScalarFn, View, scalar};

/// An index as a function of the loops: `(offset + sum(coefficient * loop)) / divisor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affine {
    /// The constant term.
    pub offset: i64,
    /// Loops with their coefficients.
    pub terms: Vec<(u8, i64)>,
    /// Where the sum is no multiple of it the element reads as zero (transposed convolution).
    pub divisor: i64,
}
codec_struct!(Affine { offset, terms, divisor });

impl Affine {
    /// The value of one loop.
    pub fn of(loop_: usize) -> Self {
        Self { offset: 0, terms: vec![(loop_ as u8, 1)], divisor: 1 }
    }

    /// The index at a point of the loops, or `None` where it is fractional.
    pub fn at(&self, point: &[usize]) -> Option<i64> {
        let sum = self.terms.iter().fold(self.offset, |s, &(l, c)| s + c * point[usize::from(l)] as i64);
        (sum % self.divisor == 0).then_some(sum / self.divisor)
    }
}

/// One dimension of an accessed tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessDim {
    /// Its extent: an index outside reads as zero.
    pub extent: usize,
    /// Elements between neighbours.
    pub stride: i64,
    /// Which element the loops name.
    pub index: Affine,
}
codec_struct!(AccessDim { extent, stride, index });

/// How the loops read a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The element that index zero names.
    pub offset: usize,
    /// The dimensions.
    pub dims: Vec<AccessDim>,
}
codec_struct!(Access { offset, dims });

impl Access {
    /// Pairs the dimensions of `view` with their indices.
    pub fn new(view: &View, index: Vec<Affine>) -> Self {
        let dims = view.shape.iter().zip(&view.strides).zip(index);
        Self { offset: view.offset, dims: dims.map(|((&extent, &stride), index)| AccessDim { extent, stride, index }).collect() }
    }

    /// The view of the whole accessed tensor.
    pub fn view(&self) -> View {
        View {
            offset: self.offset,
            shape: self.dims.iter().map(|d| d.extent).collect(),
            strides: self.dims.iter().map(|d| d.stride).collect(),
        }
    }

    /// The element that a point of the loops reads, or `None` for zero.
    pub fn at(&self, point: &[usize]) -> Option<usize> {
        self.dims
            .iter()
            .try_fold(self.offset as i64, |at, d| {
                let i = d.index.at(point)?;
                (0..d.extent as i64).contains(&i).then_some(at + i * d.stride)
            })
            .map(|at| at as usize)
    }

    /// The element that all loops at zero name, were it in bounds.
    pub fn base(&self) -> i64 {
        self.dims.iter().fold(self.offset as i64, |at, d| at + d.index.offset / d.index.divisor * d.stride)
    }

    /// Whether the loop moves the access.
    pub fn uses(&self, loop_: usize) -> bool {
        self.dims.iter().any(|d| d.index.terms.iter().any(|&(l, c)| usize::from(l) == loop_ && c != 0))
    }

    /// Elements between neighbours along a loop of `space`, where no bound and no divisor interrupts it.
    pub fn stride(&self, loop_: usize, space: &[usize]) -> Option<i64> {
        let mut stride = 0;
        for d in &self.dims {
            let moved: i64 = d.index.terms.iter().filter(|t| usize::from(t.0) == loop_).map(|t| t.1).sum();
            if moved == 0 {
                continue;
            }
            let (mut low, mut high) = (d.index.offset, d.index.offset);
            for &(l, c) in &d.index.terms {
                let reach = c * (space[usize::from(l)] as i64 - 1);
                low += reach.min(0);
                high += reach.max(0);
            }
            if d.index.divisor != 1 || low < 0 || high >= d.extent as i64 {
                return None;
            }
            stride += moved * d.stride;
        }
        Some(stride)
    }
}

/// `out[o] = epilogue(sum over r of a[o, r] * b[o, r], extras[o]...)`, with loops `o` then `r`.
#[derive(Debug, Clone, PartialEq)]
pub struct Contraction {
    /// The extent of every loop, those of the output first.
    pub space: Vec<usize>,
    /// How many loops belong to the output.
    pub outer: usize,
    /// The type of both factors.
    pub dtype: DType,
    /// The type in which the first factor is given: the same, or `f32`, which is rounded as it is read.
    pub given: DType,
    /// Whether factors of type `f32` may be rounded to the 11 significant bits of TF32.
    pub tf32: bool,
    /// How the first factor is read.
    pub a: Access,
    /// How the second factor is read; weights by convention.
    pub b: Access,
    /// The type of the sum, input 0 of the epilogue.
    pub sum: DType,
    /// Further tensors over the output loops: inputs 1, 2, ... of the epilogue.
    pub extras: Vec<Operand>,
    /// What is stored for a sum.
    pub epilogue: ScalarFn,
    /// Where the output lies; its dimensions are the output loops.
    pub out: Operand,
}

/// How factors are multiplied, in one byte.
const TF32: u8 = 1;
const GIVEN_IN_F32: u8 = 2;

impl Codec for Contraction {
    fn encode(&self, out: &mut Vec<u8>) {
        self.space.encode(out);
        self.outer.encode(out);
        self.dtype.encode(out);
        out.push(if self.tf32 { TF32 } else { 0 } | if self.given == self.dtype { 0 } else { GIVEN_IN_F32 });
        self.a.encode(out);
        self.b.encode(out);
        self.sum.encode(out);
        self.extras.encode(out);
        self.epilogue.encode(out);
        self.out.encode(out);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (space, outer, dtype) = (Codec::decode(r)?, Codec::decode(r)?, Codec::decode(r)?);
        let how = r.byte()?;
        if how > TF32 | GIVEN_IN_F32 {
            return Err(DecodeError::Malformed("flag"));
        }
        let given = if how & GIVEN_IN_F32 == 0 { dtype } else { DType::F32 };
        let (a, b, sum) = (Codec::decode(r)?, Codec::decode(r)?, Codec::decode(r)?);
        let (extras, epilogue, out) = (Codec::decode(r)?, Codec::decode(r)?, Codec::decode(r)?);
        Ok(Self { space, outer, dtype, given, tf32: how & TF32 != 0, a, b, sum, extras, epilogue, out })
    }
}

impl Contraction {
    /// The extents of the reduction loops.
    pub fn inner(&self) -> &[usize] {
        &self.space[self.outer..]
    }
}

impl Family for Contraction {
    const NAME: &'static str = "contraction";
    fn inputs(&self) -> Vec<Operand> {
        let factor = |dtype: DType, a: &Access| Operand { dtype, view: a.view() };
        [factor(self.given, &self.a), factor(self.dtype, &self.b)].into_iter().chain(self.extras.iter().cloned()).collect()
    }
    fn outputs(&self) -> Vec<Operand> {
        vec![self.out.clone()]
    }
    fn describe(&self) -> String {
        let tf32 = if self.tf32 { " tf32" } else { "" };
        format!("{:?} over {:?}{tf32}", &self.space[..self.outer], self.inner())
    }
    fn operations(&self) -> u64 {
        2 * product(&self.space)
    }
    fn faults(&self) -> Vec<String> {
        let mut faults = vec![];
        if self.given != self.dtype && (self.given != DType::F32 || self.dtype.bytes() != 2) {
            faults.push(format!("a factor in {} is not rounded to {}", self.given, self.dtype));
        }
        if self.outer > self.space.len() || self.out.view.shape != self.space[..self.outer.min(self.space.len())] {
            faults.push("the output is not over the output loops".to_owned());
        }
        for d in self.a.dims.iter().chain(&self.b.dims) {
            if d.index.divisor < 1 || d.index.terms.iter().any(|t| usize::from(t.0) >= self.space.len()) {
                faults.push("an access names a loop that does not exist".to_owned());
            }
        }
        if self.extras.iter().any(|e| e.view.shape != self.out.view.shape) {
            faults.push("an extra operand is not over the output loops".to_owned());
        }
        faults.extend(scalar::faults(&self.epilogue, 1 + self.extras.len(), self.outer));
        faults
    }
}
