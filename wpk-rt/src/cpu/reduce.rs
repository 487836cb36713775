//! Reductions over whole dimensions.

use super::isa::dispatch;
use super::{Bound, Cx, Shared, part};
use wpk_plan::Walk;
use wpk_plan::problem::{Reduce, ReduceKind};
use wpk_plan::{DType, View};

struct Bind {
    kind: ReduceKind,
    dtype: DType,
    /// Kept dimensions of input and output.
    outer: Walk,
    /// Reduced dimensions of the input.
    inner: Walk,
    count: usize,
    /// Whether kept neighbours lie together, so that rows of them are combined.
    vectors: bool,
}

/// Kept elements combined at a time.
const ROW: usize = 256;

pub(super) fn bind(p: &Reduce) -> Result<Box<dyn Bound>, String> {
    let dims = |wanted: bool| (0..p.axes.len()).filter(|&d| p.axes[d] == wanted).collect::<Vec<_>>();
    if !matches!(p.input.dtype, DType::F32 | DType::F64 | DType::I32 | DType::I64) {
        return Err(format!("reductions of {} are not supported", p.input.dtype));
    }
    let (kept, reduced) = (dims(false), dims(true));
    let inner = View { offset: 0, ..p.input.view.transpose(&reduced) };
    let outer = Walk::new(&[&p.input.view.transpose(&kept), &p.output.view.transpose(&kept)], true);
    let vectors = p.input.dtype == DType::F32 && outer.inner() >= 8 && outer.step(0) == 1 && outer.step(1) == 1;
    let count = inner.len();
    Ok(Box::new(Bind { kind: p.kind, dtype: p.input.dtype, inner: Walk::new(&[&inner], true), outer, count, vectors }))
}

impl Bound for Bind {
    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let (from, to) = (Shared(args[0]), Shared(args[1]));
        let blocks = if self.vectors { self.outer.inner().div_ceil(ROW) } else { 1 };
        let total = self.outer.rows() * blocks;
        let work = self.outer.rows() * self.outer.inner() * self.count;
        let tasks = if work < 16 * 1024 { 1 } else { (cx.pool.threads() * 4).min(total) };
        cx.pool.run(tasks, &|task, _| {
            for unit in part(total, tasks, task) {
                let (row, block) = (unit / blocks, unit % blocks);
                let (i, o) = (self.outer.row(0, row) as isize, self.outer.row(1, row) as isize);
                unsafe {
                    if self.vectors {
                        let start = block * ROW;
                        let n = (self.outer.inner() - start).min(ROW);
                        columns(self, from.get().cast::<f32>().offset(i).add(start), to.get().cast::<f32>().offset(o).add(start), n);
                        continue;
                    }
                    for e in 0..self.outer.inner() as isize {
                        let (i, o) = (i + e * self.outer.step(0) as isize, o + e * self.outer.step(1) as isize);
                        self.element(from.get(), i, to.get(), o);
                    }
                }
            }
        });
    }
}

impl Bind {
    unsafe fn element(&self, from: *const u8, i: isize, to: *mut u8, o: isize) {
        unsafe {
            match self.dtype {
                DType::F32 => to.cast::<f32>().offset(o).write(row_f32(self, from.cast::<f32>().offset(i))),
                DType::F64 => to.cast::<f64>().offset(o).write(self.float(|at| *from.cast::<f64>().offset(i + at))),
                DType::I32 => to.cast::<i32>().offset(o).write(self.int(|at| i64::from(*from.cast::<i32>().offset(i + at))) as i32),
                _ => to.cast::<i64>().offset(o).write(self.int(|at| *from.cast::<i64>().offset(i + at))),
            }
        }
    }

    fn offsets(&self) -> impl Iterator<Item = isize> + '_ {
        let (rows, step) = (self.inner.rows(), self.inner.step(0) as isize);
        (0..rows).flat_map(move |r| (0..self.inner.inner() as isize).map(move |e| self.inner.row(0, r) as isize + e * step))
    }

    fn float(&self, get: impl Fn(isize) -> f64) -> f64 {
        let x = self.offsets().map(get);
        match self.kind {
            ReduceKind::Sum => x.sum(),
            ReduceKind::Mean => x.sum::<f64>() / self.count as f64,
            ReduceKind::Max => x.fold(f64::NEG_INFINITY, |a, b| if b > a || b.is_nan() { b } else { a }),
            ReduceKind::Min => x.fold(f64::INFINITY, |a, b| if b < a || b.is_nan() { b } else { a }),
            ReduceKind::Prod => x.product(),
            ReduceKind::SumAbs => x.map(f64::abs).sum(),
            ReduceKind::SumSquare => x.map(|x| x * x).sum(),
        }
    }

    fn int(&self, get: impl Fn(isize) -> i64) -> i64 {
        let x = self.offsets().map(get);
        let (low, high) = self.dtype.int_range();
        let sum = |x: &mut dyn Iterator<Item = i64>| x.fold(0, |a: i64, b| self.dtype.wrap(a.wrapping_add(b)));
        let mut x = x;
        match self.kind {
            ReduceKind::Sum => sum(&mut x),
            ReduceKind::Mean => sum(&mut x).checked_div(self.count as i64).unwrap_or(0),
            ReduceKind::Max => x.fold(low, i64::max),
            ReduceKind::Min => x.fold(high, i64::min),
            ReduceKind::Prod => x.fold(1, |a, b| self.dtype.wrap(a.wrapping_mul(b))),
            ReduceKind::SumAbs => sum(&mut x.map(i64::wrapping_abs)),
            ReduceKind::SumSquare => sum(&mut x.map(|x| x.wrapping_mul(x))),
        }
    }
}

dispatch! {
    unsafe fn row_f32(b: &Bind, x: *const f32) -> f32 = row_body
}

#[inline(always)]
unsafe fn row_body(b: &Bind, x: *const f32) -> f32 {
    const LANES: usize = 16;
    if b.inner.step(0) != 1 || b.inner.inner() < LANES {
        return b.float(|at| f64::from(unsafe { *x.offset(at) })) as f32;
    }
    let mut lanes = [start(b.kind); LANES];
    for r in 0..b.inner.rows() {
        let p = x.wrapping_offset(b.inner.row(0, r) as isize);
        let whole = b.inner.inner() / LANES * LANES;
        unsafe {
            for i in (0..whole).step_by(LANES) {
                fold(b.kind, &mut lanes, p.add(i), LANES);
            }
            fold(b.kind, &mut lanes, p.add(whole), b.inner.inner() - whole);
        }
    }
    let total = lanes[1..].iter().fold(lanes[0], |a, &x| combine(b.kind, a, x));
    if b.kind == ReduceKind::Mean { total / b.count as f32 } else { total }
}

fn start(kind: ReduceKind) -> f32 {
    match kind {
        ReduceKind::Max => f32::NEG_INFINITY,
        ReduceKind::Min => f32::INFINITY,
        ReduceKind::Prod => 1.0,
        _ => 0.0,
    }
}

/// Combines two partial results.
#[inline(always)]
fn combine(kind: ReduceKind, a: f32, x: f32) -> f32 {
    match kind {
        ReduceKind::Max => {
            if x > a || x.is_nan() {
                x
            } else {
                a
            }
        }
        ReduceKind::Min => {
            if x < a || x.is_nan() {
                x
            } else {
                a
            }
        }
        ReduceKind::Prod => a * x,
        _ => a + x,
    }
}

/// Combines elements into lanes.
#[inline(always)]
unsafe fn fold<const N: usize>(kind: ReduceKind, lanes: &mut [f32; N], x: *const f32, n: usize) {
    macro_rules! each {
        ($f:expr) => {
            for l in 0..n {
                lanes[l] = $f(lanes[l], unsafe { *x.add(l) });
            }
        };
    }
    match kind {
        ReduceKind::Sum | ReduceKind::Mean => each!(|a: f32, x: f32| a + x),
        ReduceKind::SumAbs => each!(|a: f32, x: f32| a + x.abs()),
        ReduceKind::SumSquare => each!(|a: f32, x: f32| a + x * x),
        kind => each!(|a, x| combine(kind, a, x)),
    }
}

dispatch! {
    unsafe fn columns(b: &Bind, x: *const f32, to: *mut f32, n: usize) = columns_body
}

#[inline(always)]
unsafe fn columns_body(b: &Bind, x: *const f32, to: *mut f32, n: usize) {
    let mut lanes = [start(b.kind); ROW];
    for r in 0..b.inner.rows() {
        let row = b.inner.row(0, r) as isize;
        for e in 0..b.inner.inner() as isize {
            unsafe { fold(b.kind, &mut lanes, x.offset(row + e * b.inner.step(0) as isize), n) }
        }
    }
    let factor = if b.kind == ReduceKind::Mean { b.count as f32 } else { 1.0 };
    for (l, lane) in lanes[..n].iter().enumerate() {
        unsafe { to.add(l).write(lane / factor) }
    }
}
