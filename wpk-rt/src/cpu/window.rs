//! Pooling: vectors along the last dimension where it is not pooled, single elements otherwise.

use super::isa::{dispatch, lanes};
use super::simd::Lanes;
use super::{Bound, Cx, Shared, part};
use wpk_plan::problem::{Window, WindowKind};
use wpk_plan::{DType, View};

/// Most dimensions.
const RANK: usize = 8;
/// Elements of a window whose places are kept.
const KEPT: usize = 1024;

struct Bind {
    p: Window,
    /// Output points without the last dimension, where that is not pooled.
    vectors: bool,
    dense: Vec<i64>,
    /// Where a window's elements are, from its first one on; nothing where they are many, or vectors are not read.
    window: Vec<isize>,
    /// Of 64 neighbours, and of 16.
    pools: [Pool; 2],
}

pub(super) fn bind(p: &Window) -> Result<Box<dyn Bound>, String> {
    let rank = p.dims.len();
    if rank > RANK || rank == 0 {
        return Err(format!("pooling over {rank} dimensions is not supported"));
    }
    if !matches!(p.input.dtype, DType::F32 | DType::F64 | DType::I64 | DType::I32 | DType::I8) {
        return Err(format!("pooling of {} is not supported", p.input.dtype));
    }
    let last = p.dims[rank - 1];
    let alone = last.size == 1 && last.stride == 1 && last.pad == 0 && p.output.view.shape[rank - 1] == p.input.view.shape[rank - 1];
    let together = [&p.input.view, &p.output.view].iter().all(|v| v.strides[rank - 1] == 1);
    let bytes = p.input.dtype == DType::I8 && p.kind == WindowKind::Max;
    let vectors = alone && together && p.indices.is_none() && (p.input.dtype == DType::F32 || bytes);
    let elements = p.dims.iter().try_fold(1usize, |n, d| n.checked_mul(d.size).filter(|&n| n <= KEPT));
    let mut window = if vectors && elements.is_some() { vec![0] } else { vec![] };
    for (d, stride) in p.dims.iter().zip(&p.input.view.strides) {
        let along =
            |at: isize| (0..d.size).map(move |i| at.wrapping_add((i.wrapping_mul(d.dilation) as isize).wrapping_mul(*stride as isize)));
        window = window.into_iter().flat_map(along).collect();
    }
    Ok(Box::new(Bind { dense: View::dense(&p.input.view.shape).strides, p: p.clone(), vectors, window, pools: pools() }))
}

impl Bound for Bind {
    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let shape = &self.p.output.view.shape;
        let rank = shape.len() - usize::from(self.vectors);
        let total: usize = shape[..rank].iter().product();
        let tasks = if total * if self.vectors { shape[rank] } else { 1 } < 4096 { 1 } else { (cx.pool.threads() * 4).min(total) };
        let (from, to) = (Shared(args[0]), Shared(args[1]));
        let indices = Shared(args.get(2).copied().unwrap_or(std::ptr::null_mut()));
        cx.pool.run(tasks, &|task, _| {
            for unit in part(total, tasks, task) {
                let mut point = [0usize; RANK];
                let mut rest = unit;
                for d in (0..rank).rev() {
                    point[d] = rest % shape[d];
                    rest /= shape[d];
                }
                let place = |v: &View| v.strides.iter().zip(point).fold(v.offset as i64, |at, (s, p)| at + s * p as i64) as isize;
                let o = place(&self.p.output.view);
                unsafe {
                    if self.vectors && self.p.input.dtype == DType::I8 {
                        largest(self, &point, from.get().cast(), to.get().cast::<i8>().offset(o), shape[rank]);
                        continue;
                    }
                    if self.vectors {
                        vector(self, &point, from.get().cast(), to.get().cast::<f32>().offset(o), shape[rank]);
                        continue;
                    }
                    let at = match self.p.input.dtype {
                        DType::F32 => self.element::<f32>(&point, from.get().cast(), to.get().cast::<f32>().offset(o), f32::NEG_INFINITY),
                        DType::F64 => self.element::<f64>(&point, from.get().cast(), to.get().cast::<f64>().offset(o), f64::NEG_INFINITY),
                        DType::I8 => self.element::<i8>(&point, from.get().cast(), to.get().cast::<i8>().offset(o), i8::MIN),
                        DType::I32 => self.element::<i32>(&point, from.get().cast(), to.get().cast::<i32>().offset(o), i32::MIN),
                        _ => self.element::<i64>(&point, from.get().cast(), to.get().cast::<i64>().offset(o), i64::MIN),
                    };
                    if let Some(view) = self.p.indices.as_ref().map(|i| &i.view) {
                        indices.get().cast::<i64>().offset(place(view)).write(at);
                    }
                }
            }
        });
    }
}

impl Bind {
    /// Where the window of an output point begins, if the input has all of it.
    fn whole(&self, point: &[usize; RANK]) -> Option<isize> {
        if self.window.is_empty() {
            return None;
        }
        let view = &self.p.input.view;
        let mut at = view.offset as i64;
        for ((dim, &p), (&extent, stride)) in self.p.dims.iter().zip(point).zip(view.shape.iter().zip(&view.strides)) {
            let first = (p * dim.stride) as i64 - dim.pad as i64;
            if first < 0 || (first as usize).saturating_add((dim.size - 1).saturating_mul(dim.dilation)) >= extent {
                return None;
            }
            at += first * stride;
        }
        Some(at as isize)
    }

    /// Calls `f` with the memory and logical offset of every element in a window; returns the number a mean divides by.
    #[inline(always)]
    fn taps(&self, point: &[usize; RANK], mut f: impl FnMut(isize, i64)) -> usize {
        let (dims, view) = (&self.p.dims, &self.p.input.view);
        let mut tap = [0usize; RANK];
        let mut count = 0;
        loop {
            let (mut inside, mut padded, mut at, mut logical) = (true, true, view.offset as i64, 0);
            for (d, dim) in dims.iter().enumerate() {
                let i = (point[d] * dim.stride + tap[d] * dim.dilation) as i64 - dim.pad as i64;
                inside &= i >= 0 && i < view.shape[d] as i64;
                padded &= i < (view.shape[d] + dim.pad_end) as i64;
                at += i * view.strides[d];
                logical += i * self.dense[d];
            }
            count += usize::from(if self.p.count_pad { padded } else { inside });
            if inside {
                f(at as isize, logical);
            }
            let mut d = dims.len();
            loop {
                if d == 0 {
                    return count;
                }
                d -= 1;
                tap[d] += 1;
                if tap[d] < dims[d].size {
                    break;
                }
                tap[d] = 0;
            }
        }
    }

    unsafe fn element<T: Number>(&self, point: &[usize; RANK], x: *const T, to: *mut T, lowest: T) -> i64 {
        let (mut sum, mut best, mut place) = (0.0, lowest, None);
        let count = self.taps(point, |at, logical| {
            let v = unsafe { *x.offset(at) };
            sum += v.wide();
            if place.is_none() || v.above(best) {
                (best, place) = (v, Some(logical));
            }
        });
        let result = match self.p.kind {
            WindowKind::Max => best,
            WindowKind::Sum => T::narrow(sum),
            WindowKind::Mean => T::narrow(sum / count as f64),
        };
        unsafe { to.write(result) }
        place.unwrap_or(0)
    }
}

trait Number: Copy {
    fn wide(self) -> f64;
    fn narrow(x: f64) -> Self;
    fn above(self, other: Self) -> bool;
}
macro_rules! numbers {
    ($($T:ty: $nan:expr),*) => {$(
        impl Number for $T {
            fn wide(self) -> f64 {
                self as f64
            }
            fn narrow(x: f64) -> Self {
                x as $T
            }
            fn above(self, other: Self) -> bool {
                let nan: fn($T) -> bool = $nan;
                self > other || nan(self) && !nan(other)
            }
        }
    )*};
}
numbers!(f32: |x| x.is_nan(), f64: |x| x.is_nan(), i8: |_| false, i32: |_| false, i64: |_| false);

dispatch! {
    unsafe fn vector(b: &Bind, point: &[usize; RANK], x: *const f32, to: *mut f32, n: usize) = vector_body
}

#[inline(always)]
unsafe fn vector_body(b: &Bind, point: &[usize; RANK], x: *const f32, to: *mut f32, n: usize) {
    const LANE: usize = 16;
    const LANES: usize = 4 * LANE;
    let max = b.p.kind == WindowKind::Max;
    let mut start = 0;
    if let Some(at) = b.whole(point) {
        let factor = match b.p.kind {
            WindowKind::Max => None,
            WindowKind::Sum => Some(1.0),
            WindowKind::Mean => Some(1.0 / b.window.len() as f32),
        };
        let pool = |pool: Pool, start: usize| unsafe {
            pool(x.wrapping_offset(at).wrapping_add(start), &b.window, factor, to.wrapping_add(start))
        };
        while n - start >= LANES {
            pool(b.pools[0], start);
            start += LANES;
        }
        while start < n && n >= LANE {
            // The last vector may begin among those of the one before.
            pool(b.pools[1], start.min(n - LANE));
            start = (start + LANE).min(n);
        }
    }
    while start < n {
        let width = (n - start).min(LANES);
        let mut lanes = [if max { f32::NEG_INFINITY } else { 0.0 }; LANES];
        let count = b.taps(point, |at, _| {
            let p = x.wrapping_offset(at).wrapping_add(start);
            // A constant trip count vectorizes; whole blocks are the rule.
            if width == LANES { accumulate(&mut lanes, p, LANES, max) } else { accumulate(&mut lanes, p, width, max) }
        });
        let factor = if b.p.kind == WindowKind::Mean { 1.0 / count as f32 } else { 1.0 };
        for (l, lane) in lanes[..width].iter().enumerate() {
            unsafe { to.add(start + l).write(if max { *lane } else { lane * factor }) }
        }
        start += width;
    }
}

/// Of the elements of a whole window, of so many neighbours each: the greatest, or their sum times a factor.
type Pool = unsafe fn(*const f32, &[isize], Option<f32>, *mut f32);

fn pools() -> [Pool; 2] {
    macro_rules! compiled {
        ($V:ty $(, $feature:literal)?) => {{
            $(#[target_feature(enable = $feature)])?
            unsafe fn pool<const N: usize>(from: *const f32, window: &[isize], factor: Option<f32>, to: *mut f32) {
                unsafe { pool_body::<$V, N>(from, window, factor, to) }
            }
            [pool::<4>, pool::<1>]
        }};
    }
    lanes!(compiled)
}

#[inline(always)]
unsafe fn pool_body<V: Lanes, const N: usize>(from: *const f32, window: &[isize], factor: Option<f32>, to: *mut f32) {
    unsafe {
        let mut all = [V::splat(if factor.is_none() { f32::NEG_INFINITY } else { 0.0 }); N];
        let one = V::splat(1.0);
        for &at in window {
            for (i, v) in all.iter_mut().enumerate() {
                let x = V::load(from.wrapping_offset(at).wrapping_add(16 * i));
                *v = if factor.is_none() { v.greater(x) } else { v.mul_add(x, one) };
            }
        }
        for (i, v) in all.into_iter().enumerate() {
            let v = factor.map_or(v, |factor| V::splat(0.0).mul_add(v, V::splat(factor)));
            v.store(to.wrapping_add(16 * i));
        }
    }
}

#[inline(always)]
fn accumulate(lanes: &mut [f32; 64], p: *const f32, width: usize, max: bool) {
    for (l, lane) in lanes[..width].iter_mut().enumerate() {
        let v = unsafe { *p.add(l) };
        *lane = if max { if v > *lane || v.is_nan() { v } else { *lane } } else { *lane + v };
    }
}

dispatch! {
    /// The largest bytes.
    unsafe fn largest(b: &Bind, point: &[usize; RANK], x: *const i8, to: *mut i8, n: usize) = largest_body
}

#[inline(always)]
unsafe fn largest_body(b: &Bind, point: &[usize; RANK], x: *const i8, to: *mut i8, n: usize) {
    const LANES: usize = 64;
    let at = b.whole(point);
    for start in (0..n).step_by(LANES) {
        let width = (n - start).min(LANES);
        let mut lanes = [i8::MIN; LANES];
        if let (Some(at), LANES) = (at, width) {
            let from = x.wrapping_offset(at).wrapping_add(start);
            for &tap in &b.window {
                let bytes = unsafe { from.wrapping_offset(tap).cast::<[i8; LANES]>().read_unaligned() };
                for l in 0..LANES {
                    lanes[l] = lanes[l].max(bytes[l]);
                }
            }
            unsafe { to.add(start).cast::<[i8; LANES]>().write_unaligned(lanes) };
            continue;
        }
        b.taps(point, |at, _| {
            let p = x.wrapping_offset(at).wrapping_add(start);
            let mut bytes = [i8::MIN; LANES];
            unsafe {
                if width == LANES {
                    bytes = p.cast::<[i8; LANES]>().read_unaligned();
                } else {
                    std::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr(), width);
                }
            }
            for l in 0..LANES {
                lanes[l] = lanes[l].max(bytes[l]);
            }
        });
        unsafe { std::ptr::copy_nonoverlapping(lanes.as_ptr(), to.add(start), width) }
    }
}

#[cfg(test)]
mod tests {
    use wpk_plan::problem::{Operand, Window, WindowDim, WindowKind};
    use wpk_plan::{DType, View};

    /// A plan may say anything: binding keeps no place for every element of a window.
    #[test]
    fn windows_beyond_all_memory_are_bound() {
        let operand = |rows| Operand { dtype: DType::F32, view: View::dense(&[rows, 64]) };
        for (size, dilation) in [(1 << 40, 1), (usize::MAX, 3), (1000, usize::MAX / 3)] {
            let alone = WindowDim { size: 1, stride: 1, dilation: 1, pad: 0, pad_end: 0 };
            let along = WindowDim { size, dilation, pad: size - 1, ..alone };
            let (input, output) = (operand(4), operand(1));
            let p = Window { kind: WindowKind::Max, dims: vec![along, alone], count_pad: false, input, output, indices: None };
            assert!(super::bind(&p).is_ok(), "{size} {dilation}");
        }
    }
}
