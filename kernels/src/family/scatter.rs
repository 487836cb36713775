//! Writing at computed positions: a thread for each element of the result looks through the updates that may meet it, in their order, so
//! that equal positions give the same result every time.

use super::indexed::position;
use super::{Unsupported, affine, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Kernel, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::problem::{ScatterElements, ScatterNd, ScatterReduce};
use wpk_plan::{Binary, DType, ScalarFn, View};

/// The problems that write at computed positions.
pub enum ScatterProblem {
    /// Single elements along an axis.
    Elements(ScatterElements),
    /// Blocks by tuples.
    Blocks(ScatterNd),
}

impl ScatterProblem {
    fn types(&self) -> (DType, DType, ScatterReduce) {
        match self {
            Self::Elements(p) => (p.dtype, p.index, p.reduce),
            Self::Blocks(p) => (p.dtype, p.index, p.reduce),
        }
    }

    /// Elements of the result, and updates that may meet one.
    fn extents(&self) -> (usize, usize) {
        match self {
            Self::Elements(p) => (p.shape.iter().product(), p.updates[p.axis]),
            Self::Blocks(p) => (p.dims.iter().product::<usize>() * p.inner, p.count),
        }
    }
}

schedule! {
    /// How updates are looked through.
    Scatter(ScatterProblem => Facts) = "scatter" {
        /// Threads of a block.
        threads: [64, 128, 256],
    }
}

/// What a schedule of such a problem depends on.
pub struct Facts {
    total: usize,
    updates: usize,
    size: usize,
    small: bool,
    arch: Arch,
}

impl Facts {
    fn of(p: &ScatterProblem, arch: &Arch) -> Self {
        let ((total, updates), (dtype, index, _)) = (p.extents(), p.types());
        let all = match p {
            ScatterProblem::Elements(p) => p.updates.iter().product(),
            ScatterProblem::Blocks(p) => p.count * p.inner.max(p.dims.len()),
        };
        let small = (1..1 << 30).contains(&total) && all < 1 << 30 && matches!(index, DType::I32 | DType::I64) && dtype != DType::Text;
        Self { total, updates, size: dtype.bytes(), small, arch: *arch }
    }
}

impl Scatter {
    fn fits(&self, f: &Facts) -> bool {
        f.small
    }

    fn estimate(&self, f: &Facts) -> f64 {
        let waves = (f.total as f64 / f64::from(f.arch.sms) / f64::from(f.arch.threads)).ceil();
        let uneven = 1.0 + f64::from(self.threads.abs_diff(128)) / 1e4;
        1500.0 + ((2 * f.total * f.size) as f64 / f.arch.bandwidth).max(30.0 * f.updates as f64 * waves) * uneven
    }
}

/// The kernel; its parameters are the data, the indices, the updates and the result.
///
/// # Errors
/// Where the schedule does not fit, or a type is not generated yet.
pub fn scatter(p: &ScatterProblem, s: &Scatter, arch: &Arch) -> Result<Kernel, Unsupported> {
    let facts = Facts::of(p, arch);
    let (dtype, index, reduce) = p.types();
    if !s.legal(&facts) {
        return Err(Unsupported(format!("{s} does not fit elements of {dtype} at positions of {index}")));
    }
    let mut k = Writer::for_arch(arch);
    let thread = k.thread(s.threads);
    let inside = k.below(thread, facts.total as i64);
    let mut result = Ok(());
    k.when(inside, |k| {
        let at = Val { ty: Ty::S32, ..thread };
        let from = k.element(0, at, dtype.bytes());
        let start = scalar::load_neighbours(k, dtype, from, 0, 1)[0];
        let value = k.variable(start);
        let mut meet = |k: &mut Writer, update: Val| {
            let from = k.element(2, update, dtype.bytes());
            let x = scalar::load_neighbours(k, dtype, from, 0, 1)[0];
            match scalar::emit(k, &combination(reduce, dtype), &[value, x], &mut |k, _| k.int(0, Ty::U32)) {
                Ok(next) => k.assign(value, next[0]),
                Err(e) => result = Err(e),
            }
        };
        match p {
            ScatterProblem::Elements(p) => elements(k, p, thread, &mut meet),
            ScatterProblem::Blocks(p) => blocks(k, p, thread, &mut meet),
        }
        let to = k.element(3, at, dtype.bytes());
        scalar::store_neighbours(k, dtype, to, 0, &[value]);
    });
    result?;
    Ok(k.finish("scatter", 4, s.threads, (facts.total as u32).div_ceil(s.threads)))
}

/// Of what is there and an update, what is kept.
fn combination(reduce: ScatterReduce, dtype: DType) -> ScalarFn {
    let mut f = ScalarFn::default();
    let (old, new) = (f.input(0, dtype), f.input(1, dtype));
    let with = |f: &mut ScalarFn, b| f.binary(b, old, new);
    f.outputs = vec![match reduce {
        ScatterReduce::None => new,
        ScatterReduce::Add => with(&mut f, Binary::Add),
        ScatterReduce::Mul => with(&mut f, Binary::Mul),
        ScatterReduce::Max => with(&mut f, Binary::Max),
        ScatterReduce::Min => with(&mut f, Binary::Min),
    }];
    f
}

/// Only updates that differ from the element along the axis alone may meet it.
fn elements(k: &mut Writer, p: &ScatterElements, thread: Val, meet: &mut dyn FnMut(&mut Writer, Val)) {
    let loops: Vec<usize> = (0..p.shape.len()).collect();
    let mut coordinates = vec![k.int(0, Ty::U32); p.shape.len()];
    affine::split(k, thread, &loops, &p.shape, &mut coordinates);
    let mut exists = None;
    for d in loops.iter().copied().filter(|&d| d != p.axis && p.updates[d] < p.shape[d]) {
        let within = k.below(coordinates[d], p.updates[d] as i64);
        exists = k.both(exists, Some(within));
    }
    let mut strides = View::dense(&p.updates).strides;
    let along = std::mem::take(&mut strides[p.axis]);
    let mut first = k.int(0, Ty::U32);
    for (&c, stride) in coordinates.iter().zip(strides) {
        let moved = k.scaled(c, stride);
        first = k.add(first, moved);
    }
    let own = Val { ty: Ty::S32, ..coordinates[p.axis] };
    let look = |k: &mut Writer| {
        k.repeat(p.updates[p.axis] as u32, |k, i| {
            let moved = k.scaled(i, along);
            let at = k.add(first, moved);
            let at = Val { ty: Ty::S32, ..at };
            let names = position(k, at, p.index, p.shape[p.axis]);
            let met = k.compare(Cmp::Eq, names, own);
            k.when(met, |k| meet(k, at));
        });
    };
    if p.updates.contains(&0) {
        return;
    }
    k.when_some(exists, look);
}

fn blocks(k: &mut Writer, p: &ScatterNd, thread: Val, meet: &mut dyn FnMut(&mut Writer, Val)) {
    let (block, element) = k.div_rem(thread, p.inner as u32);
    let (block, element) = (Val { ty: Ty::S32, ..block }, Val { ty: Ty::S32, ..element });
    if p.count == 0 {
        return;
    }
    k.repeat(p.count as u32, |k, i| {
        let tuple = k.scaled(i, p.dims.len() as i64);
        let mut named = k.int(0, Ty::S32);
        for (d, &extent) in p.dims.iter().enumerate() {
            let entry = k.plus(tuple, d as i64);
            let at = position(k, entry, p.index, extent);
            let above = k.scaled(named, extent as i64);
            named = k.add(above, at);
        }
        let met = k.compare(Cmp::Eq, named, block);
        k.when(met, |k| {
            let first = k.scaled(i, p.inner as i64);
            let at = k.add(Val { ty: Ty::S32, ..first }, element);
            meet(k, at);
        });
    });
}
