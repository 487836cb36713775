//! Reading and writing at computed positions, and searches along one dimension. Operands are dense.

use super::isa::dispatch;
use super::{Bound, Cx, Shared, part};
use wpk_plan::problem::{ArgReduce, Gather, GatherElements, GatherNd, Resample, Scan, ScatterElements, ScatterNd, ScatterReduce, TopK};
use wpk_plan::{DType, View};

/// A kernel that is a function of its arguments.
struct Plain<F>(F);

impl<F: Fn(&[*mut u8], &Cx<'_>) + Send + Sync> Bound for Plain<F> {
    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        (self.0)(args, cx);
    }
}

type Bind = Result<Box<dyn Bound>, String>;

fn plain(f: impl Fn(&[*mut u8], &Cx<'_>) + Send + Sync + 'static) -> Bind {
    Ok(Box::new(Plain(f)))
}

/// The position an index names, kept inside the dimension.
unsafe fn position(p: *const u8, t: DType, i: usize, n: usize) -> usize {
    let x = unsafe {
        match t {
            DType::I32 => i64::from(p.cast::<i32>().add(i).read_unaligned()),
            _ => p.cast::<i64>().add(i).read_unaligned(),
        }
    };
    let x = if x < 0 { x.saturating_add(n as i64) } else { x };
    x.clamp(0, (n as i64 - 1).max(0)) as usize
}

fn check_index(t: DType) -> Result<(), String> {
    if matches!(t, DType::I32 | DType::I64) { Ok(()) } else { Err(format!("indices of type {t} are not supported")) }
}

fn tasks(work: usize, units: usize, cx: &Cx<'_>) -> usize {
    if work < 32 * 1024 { 1 } else { (cx.pool.threads() * 4).min(units.max(1)) }
}

pub(super) fn gather(p: &Gather) -> Bind {
    check_index(p.index)?;
    let p = p.clone();
    plain(move |args, cx| {
        let size = p.inner * p.dtype.bytes();
        let (x, index, out) = (Shared(args[0]), Shared(args[1]), Shared(args[2]));
        let units = p.outer * p.count;
        let tasks = tasks(units * size, units, cx);
        cx.pool.run(tasks, &|task, _| {
            for unit in part(units, tasks, task) {
                let (o, i) = (unit / p.count, unit % p.count);
                unsafe {
                    let at = position(index.get(), p.index, i, p.n);
                    std::ptr::copy_nonoverlapping(x.get().add((o * p.n + at) * size), out.get().add(unit * size), size);
                }
            }
        });
    })
}

/// For each point of `shape`, calls `f` with its number and the offset in `target` whose coordinate `axis` is 0.
fn along(shape: &[usize], target: &[usize], axis: usize, mut f: impl FnMut(usize, usize)) {
    let dense = View::dense(target).strides;
    let mut point = [0usize; 16];
    let mut at = 0i64;
    for i in 0..shape.iter().product() {
        f(i, at as usize);
        for d in (0..shape.len()).rev() {
            let stride = if d == axis { 0 } else { dense[d] };
            point[d] += 1;
            at += stride;
            if point[d] < shape[d] {
                break;
            }
            at -= stride * shape[d] as i64;
            point[d] = 0;
        }
    }
}

fn check_rank(rank: usize) -> Result<(), String> {
    if rank <= 16 { Ok(()) } else { Err(format!("{rank} dimensions are not supported")) }
}

pub(super) fn gather_elements(p: &GatherElements) -> Bind {
    check_index(p.index)?;
    check_rank(p.shape.len())?;
    let p = p.clone();
    let stride: usize = p.shape[p.axis + 1..].iter().product();
    plain(move |args, _| {
        let size = p.dtype.bytes();
        along(&p.out, &p.shape, p.axis, |i, base| unsafe {
            let from = base + position(args[1], p.index, i, p.shape[p.axis]) * stride;
            std::ptr::copy_nonoverlapping(args[0].add(from * size), args[2].add(i * size), size);
        });
    })
}

/// The block an index tuple names.
unsafe fn block(index: *const u8, t: DType, dims: &[usize], i: usize) -> usize {
    dims.iter().enumerate().fold(0, |at, (d, &n)| at * n + unsafe { position(index, t, i * dims.len() + d, n) })
}

pub(super) fn gather_nd(p: &GatherNd) -> Bind {
    check_index(p.index)?;
    let p = p.clone();
    plain(move |args, _| {
        let size = p.inner * p.dtype.bytes();
        let blocks: usize = p.dims.iter().product();
        for unit in 0..p.batch * p.count {
            unsafe {
                let from = unit / p.count * blocks + block(args[1], p.index, &p.dims, unit);
                std::ptr::copy_nonoverlapping(args[0].add(from * size), args[2].add(unit * size), size);
            }
        }
    })
}

/// Meets one element with its update.
unsafe fn meet(t: DType, reduce: ScatterReduce, to: *mut u8, update: *const u8) {
    macro_rules! each {
        ($T:ty, $add:expr, $mul:expr) => {{
            let (a, b) = unsafe { (to.cast::<$T>().read_unaligned(), update.cast::<$T>().read_unaligned()) };
            let (add, mul): (fn($T, $T) -> $T, fn($T, $T) -> $T) = ($add, $mul);
            let y = match reduce {
                ScatterReduce::None => b,
                ScatterReduce::Add => add(a, b),
                ScatterReduce::Mul => mul(a, b),
                ScatterReduce::Max => {
                    if b > a || b != b {
                        b
                    } else {
                        a
                    }
                }
                ScatterReduce::Min => {
                    if b < a || b != b {
                        b
                    } else {
                        a
                    }
                }
            };
            unsafe { to.cast::<$T>().write_unaligned(y) }
        }};
    }
    match t {
        DType::F32 => each!(f32, |a, b| a + b, |a, b| a * b),
        DType::F64 => each!(f64, |a, b| a + b, |a, b| a * b),
        DType::I32 => each!(i32, i32::wrapping_add, i32::wrapping_mul),
        _ => each!(i64, i64::wrapping_add, i64::wrapping_mul),
    }
}

fn check_reduce(t: DType, reduce: ScatterReduce) -> Result<(), String> {
    let arithmetic = matches!(t, DType::F32 | DType::F64 | DType::I32 | DType::I64);
    if arithmetic || reduce == ScatterReduce::None { Ok(()) } else { Err(format!("scatter with {reduce} of {t} is not supported")) }
}

pub(super) fn scatter_elements(p: &ScatterElements) -> Bind {
    check_index(p.index)?;
    check_reduce(p.dtype, p.reduce)?;
    check_rank(p.shape.len())?;
    let p = p.clone();
    let stride: usize = p.shape[p.axis + 1..].iter().product();
    plain(move |args, _| {
        let size = p.dtype.bytes();
        unsafe { std::ptr::copy(args[0], args[3], p.shape.iter().product::<usize>() * size) }
        along(&p.updates, &p.shape, p.axis, |i, base| unsafe {
            let to = args[3].add((base + position(args[1], p.index, i, p.shape[p.axis]) * stride) * size);
            let update = args[2].add(i * size);
            if p.reduce == ScatterReduce::None {
                std::ptr::copy_nonoverlapping(update, to, size)
            } else {
                meet(p.dtype, p.reduce, to, update)
            }
        });
    })
}

pub(super) fn scatter_nd(p: &ScatterNd) -> Bind {
    check_index(p.index)?;
    check_reduce(p.dtype, p.reduce)?;
    let p = p.clone();
    plain(move |args, _| {
        let size = p.dtype.bytes();
        let row = p.inner * size;
        unsafe { std::ptr::copy(args[0], args[3], p.dims.iter().product::<usize>() * row) }
        for i in 0..p.count {
            unsafe {
                let to = args[3].add(block(args[1], p.index, &p.dims, i) * row);
                let update = args[2].add(i * row);
                if p.reduce == ScatterReduce::None {
                    std::ptr::copy_nonoverlapping(update, to, row);
                } else {
                    (0..p.inner).for_each(|e| meet(p.dtype, p.reduce, to.add(e * size), update.add(e * size)));
                }
            }
        }
    })
}

pub(super) fn resample(p: &Resample) -> Bind {
    if !matches!(p.dtype, DType::F32 | DType::F64) {
        return Err(format!("interpolation of {} is not supported", p.dtype));
    }
    let p = p.clone();
    plain(move |args, cx| {
        let args = [Shared(args[0]), Shared(args[1]), Shared(args[2]), Shared(args[3])];
        let units = p.outer * p.count;
        let tasks = tasks(units * p.inner * p.taps, units, cx);
        cx.pool.run(tasks, &|task, _| {
            for unit in part(units, tasks, task) {
                unsafe {
                    if p.dtype == DType::F32 {
                        row_f32(&p, unit, args[0].get().cast(), args[1].get(), args[2].get().cast(), args[3].get().cast());
                    } else {
                        interpolate::<f64>(&p, unit, args[0].get().cast(), args[1].get(), args[2].get().cast(), args[3].get().cast());
                    }
                }
            }
        });
    })
}

dispatch! {
    unsafe fn row_f32(p: &Resample, unit: usize, x: *const f32, index: *const u8, weights: *const f32, out: *mut f32) = interpolate::<f32>
}

#[inline(always)]
unsafe fn interpolate<T: Copy + Default + std::ops::Mul<Output = T> + std::ops::Add<Output = T>>(
    p: &Resample,
    unit: usize,
    x: *const T,
    index: *const u8,
    weights: *const T,
    out: *mut T,
) {
    let (o, i) = (unit / p.count, unit % p.count);
    unsafe {
        let out = out.add(unit * p.inner);
        for t in 0..p.taps {
            let from = x.add((o * p.n + position(index, DType::I64, i * p.taps + t, p.n)) * p.inner);
            let w = *weights.add(i * p.taps + t);
            for e in 0..p.inner {
                let term = w * *from.add(e);
                out.add(e).write(if t == 0 { term } else { *out.add(e) + term });
            }
        }
    }
}

/// Runs an expression with `$T` as the element type.
macro_rules! by_type {
    ($dtype:expr, $T:ident => $body:expr, $what:literal) => {
        match $dtype {
            DType::F32 => {
                type $T = f32;
                $body
            }
            DType::F64 => {
                type $T = f64;
                $body
            }
            DType::I32 => {
                type $T = i32;
                $body
            }
            DType::I64 => {
                type $T = i64;
                $body
            }
            other => Err(format!(concat!($what, " of {} are not supported"), other)),
        }
    };
}

trait Number: Copy + PartialOrd {
    fn zero_or_one(one: bool) -> Self;
    fn sum(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
}
macro_rules! numbers {
    ($($T:ty: $add:expr, $mul:expr);*) => {$(
        impl Number for $T {
            fn zero_or_one(one: bool) -> Self {
                u8::from(one).into()
            }
            fn sum(self, other: Self) -> Self {
                let f: fn($T, $T) -> $T = $add;
                f(self, other)
            }
            fn times(self, other: Self) -> Self {
                let f: fn($T, $T) -> $T = $mul;
                f(self, other)
            }
        }
    )*};
}
numbers!(f32: |a, b| a + b, |a, b| a * b; f64: |a, b| a + b, |a, b| a * b; i32: i32::wrapping_add, i32::wrapping_mul; i64: i64::wrapping_add, i64::wrapping_mul);

pub(super) fn scan(p: &Scan) -> Bind {
    let p = p.clone();
    by_type!(p.dtype, T => plain(move |args, _| {
        let (x, out) = (args[0].cast::<T>(), args[1].cast::<T>());
        for unit in 0..p.outer * p.inner {
            let (o, e) = (unit / p.inner, unit % p.inner);
            let mut total = T::zero_or_one(p.product);
            for step in 0..p.n {
                let i = if p.reverse { p.n - 1 - step } else { step };
                let at = (o * p.n + i) * p.inner + e;
                unsafe {
                    let v = *x.add(at);
                    let next = if p.product { total.times(v) } else { total.sum(v) };
                    out.add(at).write(if p.exclusive { total } else { next });
                    total = next;
                }
            }
        }
    }), "running sums")
}

pub(super) fn arg_reduce(p: &ArgReduce) -> Bind {
    let p = p.clone();
    by_type!(p.dtype, T => plain(move |args, _| {
        let (x, out) = (args[0].cast::<T>(), args[1].cast::<i64>());
        for unit in 0..p.outer * p.inner {
            let (o, e) = (unit / p.inner, unit % p.inner);
            let value = |i: usize| unsafe { *x.add((o * p.n + i) * p.inner + e) };
            let before = |a: T, b: T| if p.largest { a > b } else { a < b };
            let best = (1..p.n).fold(0, |best, i| {
                let better = if p.last { !before(value(best), value(i)) } else { before(value(i), value(best)) };
                if better { i } else { best }
            });
            unsafe { out.add(unit).write(best as i64) }
        }
    }), "searches")
}

/// Positions with their order, in scratch memory.
struct Top<F>(F, usize);

impl<F: Fn(&[*mut u8], *mut u8) + Send + Sync> Bound for Top<F> {
    fn scratch(&self) -> (usize, usize) {
        (self.1, 0)
    }
    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        (self.0)(args, cx.shared);
    }
}

pub(super) fn top_k(p: &TopK) -> Bind {
    let p = p.clone();
    let bytes = p.n * 8;
    by_type!(p.dtype, T => Ok(Box::new(Top(move |args: &[*mut u8], scratch: *mut u8| {
        let (x, values, places) = (args[0].cast::<T>(), args[1].cast::<T>(), args[2].cast::<i64>());
        let order = unsafe { std::slice::from_raw_parts_mut(scratch.cast::<u64>(), p.n) };
        for unit in 0..p.outer * p.inner {
            let (o, e) = (unit / p.inner, unit % p.inner);
            let value = |i: u64| unsafe { *x.add((o * p.n + i as usize) * p.inner + e) };
            order.iter_mut().zip(0..).for_each(|(to, i)| *to = i);
            order.sort_unstable_by(|&i, &j| {
                let (a, b) = if p.largest { (value(j), value(i)) } else { (value(i), value(j)) };
                // What is no number is larger than all that are.
                #[allow(clippy::eq_op, reason = "so it is for what is no number alone")]
                a.partial_cmp(&b).unwrap_or_else(|| (a != a).cmp(&(b != b))).then(i.cmp(&j))
            });
            for (k, &i) in order[..p.k].iter().enumerate() {
                let to = (o * p.k + k) * p.inner + e;
                unsafe {
                    values.add(to).write(value(i));
                    places.add(to).write(i as i64);
                }
            }
        }
    }, bytes)) as Box<dyn Bound>), "searches")
}
