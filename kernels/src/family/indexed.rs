//! Reading at computed positions: gathers and resampling. Every thread computes a few neighbouring elements.

use super::affine::Linear;
use super::{Unsupported, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Kernel, MemTy, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::problem::{Gather, GatherElements, GatherNd, Resample};
use wpk_plan::{DType, View};

/// The problems that read at computed positions.
pub enum IndexProblem {
    /// Whole slices.
    Gather(Gather),
    /// Weighted sums of slices.
    Resample(Resample),
    /// Single elements.
    Elements(GatherElements),
    /// Blocks by tuples.
    Blocks(GatherNd),
}

impl IndexProblem {
    /// Blocks before the axis, its extent before and after, elements behind it, and the element type.
    fn extents(&self) -> ([usize; 4], DType) {
        match self {
            Self::Gather(p) => ([p.outer, p.n, p.count, p.inner], p.dtype),
            Self::Resample(p) => ([p.outer, p.n, p.count, p.inner], p.dtype),
            Self::Elements(p) => ([1, p.shape[p.axis], p.out.iter().product(), 1], p.dtype),
            Self::Blocks(p) => ([p.batch, p.dims.iter().product(), p.count, p.inner], p.dtype),
        }
    }

    /// Elements of the tensor that is read.
    fn read(&self) -> usize {
        let ([outer, n, _, inner], _) = self.extents();
        if let Self::Elements(p) = self { p.shape.iter().product() } else { outer * n * inner }
    }

    fn taps(&self) -> usize {
        match self {
            Self::Gather(_) | Self::Elements(_) | Self::Blocks(_) => 1,
            Self::Resample(p) => p.taps,
        }
    }
}

schedule! {
    /// How elements are read at computed positions.
    Indexed(IndexProblem => Facts) = "indexed" {
        /// Threads of a block.
        threads: [64, 128, 256],
        /// Neighbouring elements of a thread.
        vector: [1, 2, 4, 8],
    }
}

/// What a schedule of such a problem depends on.
pub struct Facts {
    total: usize,
    inner: usize,
    taps: usize,
    size: usize,
    small: bool,
    arch: Arch,
}

impl Facts {
    fn of(p: &IndexProblem, arch: &Arch) -> Self {
        let ([outer, n, count, inner], dtype) = p.extents();
        let total = outer * count * inner;
        let small = p.read() < 1 << 30 && (1..1 << 30).contains(&total) && n > 0;
        Self { total, inner, taps: p.taps(), size: dtype.bytes(), small, arch: *arch }
    }
}

impl Indexed {
    fn fits(&self, f: &Facts) -> bool {
        f.small && f.inner.is_multiple_of(self.vector as usize) && f.taps <= 64 && self.vector as usize * f.size <= 32
    }

    fn estimate(&self, f: &Facts) -> f64 {
        let bytes = (f.total * f.size * (1 + f.taps)) as f64;
        let uneven = f64::from(self.threads.abs_diff(128)) / 1e4;
        let waves = (f.total as f64 / f64::from(self.vector) / f64::from(f.arch.sms) / 512.0).max(1.0);
        1500.0 + 300.0 * f.taps as f64 + (bytes / f.arch.bandwidth + 10.0 * waves) * (1.0 + 0.5 / f64::from(self.vector) + uneven)
    }
}

/// The kernel; its parameters are the problem's operands.
///
/// # Errors
/// Where the schedule does not fit, or a type is not generated yet.
pub fn indexed(p: &IndexProblem, s: &Indexed, arch: &Arch) -> Result<Kernel, Unsupported> {
    let ([_, n, count, inner], dtype) = p.extents();
    let facts = Facts::of(p, arch);
    let index = match p {
        IndexProblem::Gather(g) => g.index,
        IndexProblem::Elements(g) => g.index,
        IndexProblem::Blocks(g) => g.index,
        IndexProblem::Resample(_) => DType::I64,
    };
    let sums = matches!(p, IndexProblem::Resample(_));
    if !s.legal(&facts) || !matches!(index, DType::I64 | DType::I32) || sums && scalar::register(dtype) != Ty::F32 {
        return Err(Unsupported(format!("{s} does not fit elements of {dtype} at positions of {index}")));
    }
    let v = s.vector as usize;
    let total = facts.total / v;
    let mut k = Writer::for_arch(arch);
    let thread = k.thread(s.threads);
    let body = |k: &mut Writer| {
        let (rest, group) = k.div_rem(thread, (inner / v) as u32);
        let (outer, point) = k.div_rem(rest, count as u32);
        let element = k.scaled(group, v as i64);
        // The first element of a block of the input.
        let start = k.scaled(outer, (n * inner) as i64);
        let start = k.add(start, element);
        let read = |k: &mut Writer, at: Val| {
            let at = position(k, at, index, n);
            let moved = k.scaled(at, inner as i64);
            let place = k.add(start, moved);
            k.element(0, Val { ty: Ty::S32, ..place }, dtype.bytes())
        };
        let to = k.scaled(thread, v as i64);
        match p {
            IndexProblem::Gather(_) => {
                let from = read(k, point);
                let to = k.element(2, Val { ty: Ty::S32, ..to }, dtype.bytes());
                copy(k, dtype, from, to, v);
            }
            IndexProblem::Elements(g) => {
                let mut strides = View::dense(&g.shape).strides;
                let along = std::mem::take(&mut strides[g.axis]);
                let others = Linear::view(&View { offset: 0, shape: g.out.clone(), strides }, &g.out);
                let loops: Vec<usize> = (0..g.out.len()).collect();
                let base = others.term(k, thread, &loops).offset;
                let at = position(k, thread, index, n);
                let moved = k.scaled(at, along);
                let place = k.add(Val { ty: Ty::S32, ..base }, moved);
                let (from, to) = (k.element(0, place, dtype.bytes()), k.element(2, Val { ty: Ty::S32, ..to }, dtype.bytes()));
                copy(k, dtype, from, to, 1);
            }
            IndexProblem::Blocks(g) => {
                let tuple = k.scaled(rest, g.dims.len() as i64);
                let mut block = k.scaled(outer, n as i64);
                let mut inner_blocks = n;
                for (d, &extent) in g.dims.iter().enumerate() {
                    inner_blocks /= extent;
                    let entry = k.plus(tuple, d as i64);
                    let at = position(k, entry, index, extent);
                    let moved = k.scaled(at, inner_blocks as i64);
                    block = k.add(Val { ty: Ty::S32, ..block }, moved);
                }
                let place = k.scaled(block, inner as i64);
                let place = k.add(place, Val { ty: Ty::S32, ..element });
                let (from, to) = (k.element(0, place, dtype.bytes()), k.element(2, Val { ty: Ty::S32, ..to }, dtype.bytes()));
                copy(k, dtype, from, to, v);
            }
            IndexProblem::Resample(r) => {
                let zero = k.float(0.0, Ty::F32);
                let mut sums = vec![zero; v];
                let first = k.scaled(point, r.taps as i64);
                for t in 0..r.taps {
                    let tap = k.plus(first, t as i64);
                    let from = read(k, tap);
                    let weight = k.element(2, Val { ty: Ty::S32, ..tap }, dtype.bytes());
                    let weight = scalar::load_neighbours(k, dtype, weight, 0, 1)[0];
                    let values = scalar::load_neighbours(k, dtype, from, 0, v);
                    sums = sums.iter().zip(values).map(|(&sum, x)| k.fma(weight, x, sum)).collect();
                }
                let to = k.element(3, Val { ty: Ty::S32, ..to }, dtype.bytes());
                scalar::store_neighbours(k, dtype, to, 0, &sums);
            }
        }
    };
    if total.is_multiple_of(s.threads as usize) {
        body(&mut k);
    } else {
        let inside = k.below(thread, total as i64);
        k.when(inside, body);
    }
    Ok(k.finish("indexed", if sums { 4 } else { 3 }, s.threads, (total as u32).div_ceil(s.threads)))
}

/// The position that entry `at` of the index tensor names: negative ones count from the end, and none leaves the dimension.
pub fn position(k: &mut Writer, at: Val, index: DType, n: usize) -> Val {
    let (mem, ty) = scalar::memory(index);
    let address = k.element(1, Val { ty: Ty::S32, ..at }, index.bytes());
    let i = k.load(mem, ty, address, 1)[0];
    let (zero, last) = (k.int(0, ty), k.int(n as i64 - 1, ty));
    let from_end = k.plus(i, n as i64);
    let negative = k.compare(Cmp::Lt, i, zero);
    let i = k.select(negative, from_end, i);
    let low = k.compare(Cmp::Lt, i, zero);
    let i = k.select(low, zero, i);
    let high = k.compare(Cmp::Lt, last, i);
    let i = k.select(high, last, i);
    if ty == Ty::S32 { i } else { k.op(Ty::S32, crate::ptx::Op::Convert(ty), &[i]) }
}

/// Copies `n` neighbours by their bits.
fn copy(k: &mut Writer, dtype: DType, from: Val, to: Val, n: usize) {
    let bytes = n * dtype.bytes();
    let (mem, ty, count) = if bytes.is_multiple_of(4) && bytes > dtype.bytes() {
        (MemTy::B32, Ty::U32, bytes / 4)
    } else {
        (scalar::memory(dtype).0, scalar::memory(dtype).1, n)
    };
    let at_once = [4, 2, 1].into_iter().find(|c| count.is_multiple_of(*c) && c * mem.bytes() <= 16).unwrap_or(1);
    for first in (0..count).step_by(at_once) {
        let offset = (first * mem.bytes()) as i32;
        let values = k.load_at(mem, ty, from, offset, at_once);
        k.store_at(mem, to, offset, &values);
    }
}
