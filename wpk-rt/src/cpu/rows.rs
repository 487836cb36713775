//! Functions of whole rows: softmax and normalization.

use super::isa::dispatch;
use super::{Args, Bound, Cx, Shared, math, part};
use wpk_plan::Walk;
use wpk_plan::problem::{NormKind, Normalize, Softmax};
use wpk_plan::{DType, View};

/// Offsets of rows in several operands; the last dimension is the row.
struct RowWalk {
    walk: Walk,
    rows: usize,
    n: usize,
}

impl RowWalk {
    fn new(views: &[&View]) -> Self {
        let n = views[0].shape.last().copied().unwrap_or(1);
        let outer: Vec<View> = views
            .iter()
            .map(|v| View { offset: v.offset, shape: [&v.shape[..v.shape.len() - 1], &[1]].concat(), strides: v.strides.clone() })
            .collect();
        let walk = Walk::new(&outer.iter().collect::<Vec<_>>(), false);
        let rows = walk.rows();
        Self { walk, rows, n }
    }

    fn at(&self, operand: usize, row: usize) -> isize {
        self.walk.row(operand, row) as isize
    }
}

fn tasks(rows: usize, n: usize, cx: &Cx<'_>) -> usize {
    if rows * n < 8 * 1024 { 1 } else { (cx.pool.threads() * 4).min(rows) }
}

struct SoftmaxRows {
    rows: RowWalk,
    log: bool,
    double: bool,
}

pub(super) fn bind_softmax(p: &Softmax) -> Result<Box<dyn Bound>, String> {
    let steps = [&p.input, &p.output].map(|o| o.view.shape.last() == Some(&1) || o.view.strides.last() == Some(&1));
    if steps != [true; 2] || !matches!(p.input.dtype, DType::F32 | DType::F64) {
        return Err(format!("softmax of {} rows with such strides is not supported", p.input.dtype));
    }
    Ok(Box::new(SoftmaxRows { rows: RowWalk::new(&[&p.input.view, &p.output.view]), log: p.log, double: p.input.dtype == DType::F64 }))
}

impl Bound for SoftmaxRows {
    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let tasks = tasks(self.rows.rows, self.rows.n, cx);
        let (from, to) = (Shared(args[0]), Shared(args[1]));
        if self.rows.n == 0 {
            return;
        }
        cx.pool.run(tasks, &|task, _| {
            for row in part(self.rows.rows, tasks, task) {
                let (i, o) = (self.rows.at(0, row), self.rows.at(1, row));
                unsafe {
                    if self.double {
                        softmax_f64(from.get().cast::<f64>().offset(i), to.get().cast::<f64>().offset(o), self.rows.n, self.log);
                    } else {
                        softmax_row(from.get().cast::<f32>().offset(i), to.get().cast::<f32>().offset(o), self.rows.n, self.log);
                    }
                }
            }
        });
    }
}

unsafe fn softmax_f64(x: *const f64, y: *mut f64, n: usize, log: bool) {
    let (x, y) = unsafe { (std::slice::from_raw_parts(x, n), std::slice::from_raw_parts_mut(y, n)) };
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
    for (x, y) in x.iter().zip(y) {
        *y = if log { x - max - sum.ln() } else { (x - max).exp() / sum };
    }
}

dispatch! {
    /// Softmax of one row, in place or not.
    unsafe fn softmax_row(x: *const f32, y: *mut f32, n: usize, log: bool) = softmax_body
}

/// Lanes of a running sum or maximum.
const LANES: usize = 16;

/// A number unknown to the compiler, which would else gather the lanes of sixteen groups at a time.
#[inline(always)]
fn opaque(i: usize) -> usize {
    std::hint::black_box(i)
}

#[inline(always)]
unsafe fn fold(x: *const f32, n: usize, start: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let whole = n / LANES * LANES;
    for i in (0..whole).step_by(LANES) {
        let group = unsafe { x.add(opaque(i)).cast::<[f32; LANES]>().read_unaligned() };
        for l in 0..LANES {
            lanes[l] = f(lanes[l], group[l]);
        }
    }
    for i in whole..n {
        lanes[i - whole] = f(lanes[i - whole], unsafe { *x.add(i) });
    }
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] = f(lanes[l], lanes[l + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// `y = f(x)` by groups, which vectorizes where `x` and `y` are the same row too.
#[inline(always)]
unsafe fn each(x: *const f32, y: *mut f32, n: usize, f: impl Fn(f32) -> f32) {
    let whole = n / LANES * LANES;
    for i in (0..whole).step_by(LANES) {
        let i = opaque(i);
        unsafe {
            let mut lanes = x.add(i).cast::<[f32; LANES]>().read_unaligned();
            (0..LANES).for_each(|l| lanes[l] = f(lanes[l]));
            y.add(i).cast::<[f32; LANES]>().write_unaligned(lanes);
        }
    }
    for i in whole..n {
        unsafe { y.add(i).write(f(*x.add(i))) }
    }
}

#[inline(always)]
unsafe fn softmax_body(x: *const f32, y: *mut f32, n: usize, log: bool) {
    unsafe {
        let max = fold(x, n, f32::NEG_INFINITY, |a, b| if b > a || b.is_nan() { b } else { a });
        if log {
            let mut sum = 0.0;
            for i in 0..n {
                sum += math::exp(*x.add(i) - max);
            }
            let shift = max + math::log(sum);
            return each(x, y, n, |x| x - shift);
        }
        each(x, y, n, |x| math::exp(x - max));
        let factor = 1.0 / fold(y, n, 0.0, |a, b| a + b);
        each(y, y, n, |x| x * factor);
    }
}

struct NormRows {
    rows: RowWalk,
    layer: bool,
    epsilon: f64,
    double: bool,
    /// Positions in the arguments; those of scale and bias with their step along the row.
    residual: Option<usize>,
    sum: Option<usize>,
    scale: Option<(usize, i64)>,
    bias: Option<(usize, i64)>,
    output: usize,
}

pub(super) fn bind_normalize(p: &Normalize) -> Result<Box<dyn Bound>, String> {
    use wpk_plan::problem::Family;
    let (inputs, outputs) = (p.inputs(), p.outputs());
    let views: Vec<&View> = inputs.iter().chain(&outputs).map(|o| &o.view).collect();
    let row = |v: &View| v.shape.last() == Some(&1) || v.strides.last() == Some(&1);
    let whole =
        [&p.input, &p.output].into_iter().chain(p.residual.iter().map(|r| &r.0)).chain(p.residual.iter().filter_map(|r| r.1.as_ref()));
    if !whole.clone().all(|o| row(&o.view))
        || !inputs.iter().all(|o| o.dtype == p.input.dtype)
        || !matches!(p.input.dtype, DType::F32 | DType::F64)
    {
        return Err(format!("normalization of {} rows with such strides is not supported", p.input.dtype));
    }
    let mut next = 1;
    let mut take = |present: bool| {
        present.then(|| {
            next += 1;
            next - 1
        })
    };
    let residual = take(p.residual.is_some());
    let step = |i: Option<usize>| i.map(|i| (i, views[i].strides.last().copied().unwrap_or(0)));
    let scale = step(take(p.scale.is_some()));
    let bias = step(take(p.bias.is_some()));
    let sum = p.residual.as_ref().and_then(|r| r.1.as_ref()).map(|_| inputs.len() + 1);
    Ok(Box::new(NormRows {
        rows: RowWalk::new(&views),
        layer: p.kind == NormKind::Layer,
        epsilon: p.epsilon,
        double: p.input.dtype == DType::F64,
        residual,
        sum,
        scale,
        bias,
        output: inputs.len(),
    }))
}

impl Bound for NormRows {
    fn scratch(&self) -> (usize, usize) {
        (0, self.rows.n * 8)
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        if self.rows.n == 0 {
            return;
        }
        let tasks = tasks(self.rows.rows, self.rows.n, cx);
        let args = Args(args);
        cx.pool.run(tasks, &|task, thread| {
            for row in part(self.rows.rows, tasks, task) {
                unsafe {
                    if self.double {
                        self.row::<f64>(args, row, cx.own(thread).cast())
                    } else {
                        self.single(args, row, cx.own(thread).cast())
                    }
                }
            }
        });
    }
}

impl NormRows {
    fn pointer<T>(&self, args: Args<'_>, i: usize, row: usize) -> *mut T {
        args.0[i].cast::<T>().wrapping_offset(self.rows.at(i, row))
    }

    unsafe fn single(&self, args: Args<'_>, row: usize, scratch: *mut f32) {
        let n = self.rows.n;
        let mut x: *const f32 = self.pointer(args, 0, row);
        unsafe {
            if let Some(residual) = self.residual {
                let r: *const f32 = self.pointer(args, residual, row);
                let to = self.sum.map_or(scratch, |s| self.pointer(args, s, row));
                (0..n).for_each(|i| to.add(i).write(*x.add(i) + *r.add(i)));
                x = to;
            }
            let vector = |v: Option<(usize, i64)>| match v {
                Some((i, step)) if step == 1 || n == 1 => Some(self.pointer::<f32>(args, i, row).cast_const()),
                _ => None,
            };
            let plain = |v: Option<(usize, i64)>| v.is_none() || vector(v).is_some();
            if plain(self.scale) && plain(self.bias) {
                let null = std::ptr::null();
                return norm_row(
                    x,
                    self.pointer(args, self.output, row),
                    n,
                    self.layer,
                    self.epsilon as f32,
                    vector(self.scale).unwrap_or(null),
                    vector(self.bias).unwrap_or(null),
                );
            }
            self.row::<f32>(args, row, scratch);
        }
    }

    /// Any strides of scale and bias, sums in `f64`.
    unsafe fn row<T: Copy + Into<f64> + FromF64>(&self, args: Args<'_>, row: usize, scratch: *mut T) {
        let n = self.rows.n;
        unsafe {
            let x: *const T = self.pointer(args, 0, row);
            let value = |i: usize| -> f64 {
                let r: f64 = self.residual.map_or(0.0, |r| (*self.pointer::<T>(args, r, row).add(i)).into());
                (*x.add(i)).into() + r
            };
            (0..n).for_each(|i| scratch.add(i).write(T::from_f64(value(i))));
            let value = |i: usize| -> f64 { (*scratch.add(i)).into() };
            if let Some(sum) = self.sum {
                let to: *mut T = self.pointer(args, sum, row);
                (0..n).for_each(|i| to.add(i).write(*scratch.add(i)));
            }
            let mean = if self.layer { (0..n).map(value).sum::<f64>() / n as f64 } else { 0.0 };
            let variance = (0..n).map(|i| (value(i) - mean).powi(2)).sum::<f64>() / n as f64;
            let factor = 1.0 / (variance + self.epsilon).sqrt();
            let along = |v: Option<(usize, i64)>, i: usize, default: f64| {
                v.map_or(default, |(a, s)| (*self.pointer::<T>(args, a, row).offset(i as isize * s as isize)).into())
            };
            let to: *mut T = self.pointer(args, self.output, row);
            for i in 0..n {
                to.add(i).write(T::from_f64((value(i) - mean) * factor * along(self.scale, i, 1.0) + along(self.bias, i, 0.0)));
            }
        }
    }
}

trait FromF64 {
    fn from_f64(x: f64) -> Self;
}
impl FromF64 for f32 {
    fn from_f64(x: f64) -> Self {
        x as f32
    }
}
impl FromF64 for f64 {
    fn from_f64(x: f64) -> Self {
        x
    }
}

dispatch! {
    unsafe fn norm_row(x: *const f32, y: *mut f32, n: usize, layer: bool, epsilon: f32, scale: *const f32, bias: *const f32) = norm_body
}

#[inline(always)]
unsafe fn norm_body(x: *const f32, y: *mut f32, n: usize, layer: bool, epsilon: f32, scale: *const f32, bias: *const f32) {
    unsafe {
        let mean = if layer { fold(x, n, 0.0, |a, b| a + b) / n as f32 } else { 0.0 };
        let mut lanes = [0f32; LANES];
        let whole = n / LANES * LANES;
        for i in (0..whole).step_by(LANES) {
            for (l, lane) in lanes.iter_mut().enumerate() {
                let d = *x.add(i + l) - mean;
                *lane += d * d;
            }
        }
        for i in whole..n {
            let d = *x.add(i) - mean;
            lanes[i - whole] += d * d;
        }
        let variance = lanes.iter().sum::<f32>() / n as f32;
        let factor = 1.0 / (variance + epsilon).sqrt();
        match (scale.is_null(), bias.is_null()) {
            (false, false) => (0..n).for_each(|i| y.add(i).write((*x.add(i) - mean) * factor * *scale.add(i) + *bias.add(i))),
            (false, true) => (0..n).for_each(|i| y.add(i).write((*x.add(i) - mean) * factor * *scale.add(i))),
            (true, false) => (0..n).for_each(|i| y.add(i).write((*x.add(i) - mean) * factor + *bias.add(i))),
            (true, true) => (0..n).for_each(|i| y.add(i).write((*x.add(i) - mean) * factor)),
        }
    }
}
