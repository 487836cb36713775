//! Tensors with their shape in the type.

use crate::buffer::{Recycler, Storage};
use crate::{Element, Error};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// Extents known to the type system.
pub trait Shape: Copy + Default + Send + Sync + fmt::Debug + 'static {
    /// The extents, outermost first.
    const DIMS: &'static [usize];
    /// Number of elements.
    const LEN: usize;
}

macro_rules! shapes {
    ($($(#[$doc:meta])* $T:ident < $($D:ident),* >;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $T<$(const $D: usize),*>;
        impl<$(const $D: usize),*> Shape for $T<$($D),*> {
            const DIMS: &'static [usize] = &[$($D),*];
            const LEN: usize = 1 $(* $D)*;
        }
    )*};
}

shapes! {
    /// A single element.
    Shape0<>;
    /// A vector.
    Shape1<A>;
    /// A matrix, rows first.
    Shape2<A, B>;
    /// Three dimensions.
    Shape3<A, B, C>;
    /// Four dimensions; images are `<batch, channels, height, width>`.
    Shape4<A, B, C, D>;
    /// Five dimensions.
    Shape5<A, B, C, D, E>;
    /// Six dimensions.
    Shape6<A, B, C, D, E, F>;
}

/// A dense row-major tensor of `T` with extents `S`, aligned to 64 bytes.
pub struct Tensor<T: Element, S: Shape> {
    storage: Storage,
    kind: PhantomData<(T, S)>,
}

impl<T: Element, S: Shape> Tensor<T, S> {
    /// The extents, outermost first.
    pub const DIMS: &'static [usize] = S::DIMS;

    /// Zeros (or `false`).
    pub fn zeros() -> Self {
        Self { storage: Storage::new(S::LEN * size_of::<T>()), kind: PhantomData }
    }

    pub(crate) fn recycled(home: &Arc<Recycler>) -> Self {
        Self { storage: Storage::recycled(S::LEN * size_of::<T>(), home), kind: PhantomData }
    }

    /// Every element by its row-major number.
    pub fn from_fn(f: impl FnMut(usize) -> T) -> Self {
        let mut tensor = Self::zeros();
        tensor.as_mut_slice().iter_mut().zip((0..).map(f)).for_each(|(to, x)| *to = x);
        tensor
    }

    /// A copy of row-major elements.
    ///
    /// # Errors
    /// Where the slice does not have exactly as many elements as the shape.
    pub fn from_slice(data: &[T]) -> Result<Self, Error> {
        if data.len() != S::LEN {
            return Err(Error::Mismatch {
                what: "tensor".to_owned(),
                expected: format!("{} elements of {:?}", S::LEN, S::DIMS),
                found: data.len().to_string(),
            });
        }
        let mut tensor = Self::zeros();
        tensor.as_mut_slice().copy_from_slice(data);
        Ok(tensor)
    }

    /// The elements in row-major order.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: the storage holds `LEN` initialized elements; zero bytes are valid for every element type.
        unsafe { std::slice::from_raw_parts(self.storage.ptr().cast(), S::LEN) }
    }

    /// The elements in row-major order, to write.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as for `as_slice`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.storage.ptr().cast(), S::LEN) }
    }

    /// The number of the largest element, the first of equal ones.
    pub fn argmax(&self) -> usize
    where
        T: PartialOrd,
    {
        let data = self.as_slice();
        (1..data.len()).fold(0, |best, i| if data[i] > data[best] { i } else { best })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        // SAFETY: every element type is plain bytes.
        unsafe { std::slice::from_raw_parts(self.storage.ptr(), S::LEN * size_of::<T>()) }
    }

    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: kernels write valid elements of the type; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.storage.ptr(), S::LEN * size_of::<T>()) }
    }
}

impl<T: Element, S: Shape> Clone for Tensor<T, S> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros();
        copy.as_mut_slice().copy_from_slice(self.as_slice());
        copy
    }
}

impl<T: Element, S: Shape> PartialEq for Tensor<T, S> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T: Element, S: Shape> fmt::Debug for Tensor<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.as_slice()[..S::LEN.min(8)];
        write!(f, "{}{:?} {shown:?}{}", T::DTYPE, S::DIMS, if S::LEN > 8 { " ..." } else { "" })
    }
}
