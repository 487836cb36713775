//! Reading and writing at computed positions, and searches along one dimension. All operands are dense.
//!
//! `outer`, `n` and `inner` are the product of the extents before an axis, the axis, and the product of those after it.

use super::{Family, Operand, product};
use crate::DType;
use crate::codec::{codec_struct, unit_enum};

/// Declares a family whose operands are dense: its fields, its operands and its text.
macro_rules! dense_family {
    ($(#[$doc:meta])* $T:ident = $name:literal { $($(#[$fdoc:meta])* $field:ident: $F:ty),* $(,)? }
     |$s:ident| inputs $inputs:expr, outputs $outputs:expr, describe $describe:expr, operations $ops:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $T { $($(#[$fdoc])* pub $field: $F),* }
        codec_struct!($T { $($field),* });

        impl Family for $T {
            const NAME: &'static str = $name;
            fn inputs(&self) -> Vec<Operand> {
                let $s = self;
                $inputs.into_iter().map(|(dtype, shape): (DType, Vec<usize>)| Operand::dense(dtype, &shape)).collect()
            }
            fn outputs(&self) -> Vec<Operand> {
                let $s = self;
                $outputs.into_iter().map(|(dtype, shape): (DType, Vec<usize>)| Operand::dense(dtype, &shape)).collect()
            }
            fn describe(&self) -> String {
                let $s = self;
                $describe
            }
            fn operations(&self) -> u64 {
                let $s = self;
                $ops as u64
            }
        }
    };
}

dense_family! {
    /// `out[o, i, :] = table[o, indices[i], :]`; a negative index counts from the end.
    Gather = "gather" {
        /// The element type.
        dtype: DType,
        /// The index type.
        index: DType,
        /// Blocks before the axis.
        outer: usize,
        /// Extent of the axis.
        n: usize,
        /// Elements after the axis.
        inner: usize,
        /// Number of indices.
        count: usize,
    }
    |s| inputs [(s.dtype, vec![s.outer, s.n, s.inner]), (s.index, vec![s.count])],
    outputs [(s.dtype, vec![s.outer, s.count, s.inner])],
    describe format!("[{}, {}, {}] by {}", s.outer, s.n, s.inner, s.count),
    operations s.outer * s.count * s.inner
}

dense_family! {
    /// `out[i] = x[i with i[axis] replaced by indices[i]]`.
    GatherElements = "gather_elements" {
        /// The element type.
        dtype: DType,
        /// The index type.
        index: DType,
        /// Extents of the tensor read.
        shape: Vec<usize>,
        /// Extents of the indices and the result.
        out: Vec<usize>,
        /// The dimension.
        axis: usize,
    }
    |s| inputs [(s.dtype, s.shape.clone()), (s.index, s.out.clone())],
    outputs [(s.dtype, s.out.clone())],
    describe format!("{:?} by {:?} axis {}", s.shape, s.out, s.axis),
    operations product(&s.out)
}

dense_family! {
    /// `out[b, i, :] = x[b, indices[b, i, 0], indices[b, i, 1], ..., :]`.
    GatherNd = "gather_nd" {
        /// The element type.
        dtype: DType,
        /// The index type.
        index: DType,
        /// Batches.
        batch: usize,
        /// Extents that the index tuples name.
        dims: Vec<usize>,
        /// Elements that one tuple selects.
        inner: usize,
        /// Tuples per batch.
        count: usize,
    }
    |s| inputs [(s.dtype, vec![s.batch, s.dims.iter().product(), s.inner]), (s.index, vec![s.batch, s.count, s.dims.len()])],
    outputs [(s.dtype, vec![s.batch, s.count, s.inner])],
    describe format!("{:?} by {}x{}", s.dims, s.batch, s.count),
    operations s.batch * s.count * s.inner
}

unit_enum! {
    /// What happens to the element that an update meets.
    ScatterReduce {
        /// It is replaced.
        None = "none",
        /// The update is added.
        Add = "add",
        /// It is multiplied by the update.
        Mul = "mul",
        /// The larger stays.
        Max = "max",
        /// The smaller stays.
        Min = "min",
    }
}

dense_family! {
    /// A copy of the data in which `updates[i]` meets the element at `i with i[axis] replaced by indices[i]`.
    ScatterElements = "scatter_elements" {
        /// The element type.
        dtype: DType,
        /// The index type.
        index: DType,
        /// Extents of the data and the result.
        shape: Vec<usize>,
        /// Extents of indices and updates.
        updates: Vec<usize>,
        /// The dimension.
        axis: usize,
        /// How they meet.
        reduce: ScatterReduce,
    }
    |s| inputs [(s.dtype, s.shape.clone()), (s.index, s.updates.clone()), (s.dtype, s.updates.clone())],
    outputs [(s.dtype, s.shape.clone())],
    describe format!("{} {:?} into {:?} axis {}", s.reduce, s.updates, s.shape, s.axis),
    operations product(&s.shape) + product(&s.updates)
}

dense_family! {
    /// A copy of the data in which `updates[i, :]` meets the block at `indices[i]`.
    ScatterNd = "scatter_nd" {
        /// The element type.
        dtype: DType,
        /// The index type.
        index: DType,
        /// Extents that the index tuples name.
        dims: Vec<usize>,
        /// Elements that one tuple selects.
        inner: usize,
        /// Number of tuples.
        count: usize,
        /// How they meet.
        reduce: ScatterReduce,
    }
    |s| inputs [(s.dtype, vec![s.dims.iter().product(), s.inner]), (s.index, vec![s.count, s.dims.len()]), (s.dtype, vec![s.count, s.inner])],
    outputs [(s.dtype, vec![s.dims.iter().product(), s.inner])],
    describe format!("{} {} blocks of {} into {:?}", s.reduce, s.count, s.inner, s.dims),
    operations s.dims.iter().product::<usize>() * s.inner
}

dense_family! {
    /// `out[o, i, :] = sum over t of weights[i, t] * x[o, indices[i, t], :]`: interpolation along one axis.
    Resample = "resample" {
        /// The element type of data and weights.
        dtype: DType,
        /// Blocks before the axis.
        outer: usize,
        /// Extent of the axis that is read.
        n: usize,
        /// Extent of the axis that is written.
        count: usize,
        /// Terms per output.
        taps: usize,
        /// Elements after the axis.
        inner: usize,
    }
    |s| inputs [(s.dtype, vec![s.outer, s.n, s.inner]), (DType::I64, vec![s.count, s.taps]), (s.dtype, vec![s.count, s.taps])],
    outputs [(s.dtype, vec![s.outer, s.count, s.inner])],
    describe format!("[{}, {} -> {}, {}] taps {}", s.outer, s.n, s.count, s.inner, s.taps),
    operations 2 * s.outer * s.count * s.taps * s.inner
}

dense_family! {
    /// Running sums or products along an axis.
    Scan = "scan" {
        /// The element type.
        dtype: DType,
        /// Blocks before the axis.
        outer: usize,
        /// Extent of the axis.
        n: usize,
        /// Elements after the axis.
        inner: usize,
        /// Whether products are wanted instead of sums.
        product: bool,
        /// Whether an element is left out of its own result.
        exclusive: bool,
        /// Whether it runs from the end.
        reverse: bool,
    }
    |s| inputs [(s.dtype, vec![s.outer, s.n, s.inner])],
    outputs [(s.dtype, vec![s.outer, s.n, s.inner])],
    describe format!("{} [{}, {}, {}]{}{}", if s.product { "product" } else { "sum" }, s.outer, s.n, s.inner,
        if s.exclusive { " exclusive" } else { "" }, if s.reverse { " reverse" } else { "" }),
    operations s.outer * s.n * s.inner
}

dense_family! {
    /// The `k` largest or smallest along an axis in order, equal ones by position, with their positions.
    TopK = "top_k" {
        /// The element type.
        dtype: DType,
        /// Blocks before the axis.
        outer: usize,
        /// Extent of the axis.
        n: usize,
        /// Elements after the axis.
        inner: usize,
        /// How many.
        k: usize,
        /// Whether the largest are wanted.
        largest: bool,
    }
    |s| inputs [(s.dtype, vec![s.outer, s.n, s.inner])],
    outputs [(s.dtype, vec![s.outer, s.k, s.inner]), (DType::I64, vec![s.outer, s.k, s.inner])],
    describe format!("{} {} of [{}, {}, {}]", s.k, if s.largest { "largest" } else { "smallest" }, s.outer, s.n, s.inner),
    operations s.outer * s.n * s.inner * (usize::BITS - s.k.leading_zeros()) as usize
}

dense_family! {
    /// The position of the largest or smallest along an axis.
    ArgReduce = "arg_reduce" {
        /// The element type.
        dtype: DType,
        /// Blocks before the axis.
        outer: usize,
        /// Extent of the axis.
        n: usize,
        /// Elements after the axis.
        inner: usize,
        /// Whether the largest is wanted.
        largest: bool,
        /// Whether the last of equal ones is taken.
        last: bool,
    }
    |s| inputs [(s.dtype, vec![s.outer, s.n, s.inner])],
    outputs [(DType::I64, vec![s.outer, s.inner])],
    describe format!("{} [{}, {}, {}]", if s.largest { "max" } else { "min" }, s.outer, s.n, s.inner),
    operations s.outer * s.n * s.inner
}
