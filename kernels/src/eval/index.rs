//! Reading and writing at computed positions, and searches along one dimension.

use super::scalar::{Value, binary};
use super::{Tensor, map};
use wpk_plan::problem::{ArgReduce, Gather, GatherElements, GatherNd, Resample, Scan, ScatterElements, ScatterNd, ScatterReduce, TopK};
use wpk_plan::{Binary, View};

/// The position that an index names: negative ones count from the end, and none leaves the dimension.
fn position(i: i64, n: usize) -> usize {
    let i = if i < 0 { i + n as i64 } else { i };
    i.clamp(0, (n as i64 - 1).max(0)) as usize
}

pub(super) fn gather(p: &Gather, inputs: &[&Tensor], out: &mut [Tensor]) {
    for o in 0..p.outer {
        for i in 0..p.count {
            let at = position(inputs[1].i(i), p.n);
            for e in 0..p.inner {
                out[0].set((o * p.count + i) * p.inner + e, inputs[0], (o * p.n + at) * p.inner + e);
            }
        }
    }
}

/// For each point of `shape`, its row-major number and the offset in `target` with coordinate `axis` replaced.
fn along(shape: &[usize], target: &[usize], axis: usize, index: &Tensor) -> Vec<(usize, usize)> {
    let strides = View::dense(target).strides;
    let base = View {
        offset: 0,
        shape: shape.to_vec(),
        strides: strides.iter().enumerate().map(|(d, &s)| if d == axis { 0 } else { s }).collect(),
    };
    base.offsets().enumerate().map(|(i, o)| (i, o + position(index.i(i), target[axis]) * strides[axis] as usize)).collect()
}

pub(super) fn gather_elements(p: &GatherElements, inputs: &[&Tensor], out: &mut [Tensor]) {
    for (i, from) in along(&p.out, &p.shape, p.axis, inputs[1]) {
        out[0].set(i, inputs[0], from);
    }
}

/// The block that index tuple `i` names.
fn block(index: &Tensor, dims: &[usize], i: usize) -> usize {
    dims.iter().enumerate().fold(0, |at, (d, &n)| at * n + position(index.i(i * dims.len() + d), n))
}

pub(super) fn gather_nd(p: &GatherNd, inputs: &[&Tensor], out: &mut [Tensor]) {
    let blocks: usize = p.dims.iter().product();
    for b in 0..p.batch {
        for i in 0..p.count {
            let from = b * blocks + block(inputs[1], &p.dims, b * p.count + i);
            for e in 0..p.inner {
                out[0].set((b * p.count + i) * p.inner + e, inputs[0], from * p.inner + e);
            }
        }
    }
}

fn meet(reduce: ScatterReduce, out: &mut Tensor, at: usize, updates: &Tensor, i: usize) {
    let combine = |b: Binary, out: &Tensor| binary(b, map::value(out, at), map::value(updates, i), updates.dtype);
    let value = match reduce {
        ScatterReduce::None => map::value(updates, i),
        ScatterReduce::Add => combine(Binary::Add, out),
        ScatterReduce::Mul => combine(Binary::Mul, out),
        ScatterReduce::Max => combine(Binary::Max, out),
        ScatterReduce::Min => combine(Binary::Min, out),
    };
    map::store(out, at, value);
}

pub(super) fn scatter_elements(p: &ScatterElements, inputs: &[&Tensor], out: &mut [Tensor]) {
    out[0].data = inputs[0].data.clone();
    for (i, to) in along(&p.updates, &p.shape, p.axis, inputs[1]) {
        meet(p.reduce, &mut out[0], to, inputs[2], i);
    }
}

pub(super) fn scatter_nd(p: &ScatterNd, inputs: &[&Tensor], out: &mut [Tensor]) {
    out[0].data = inputs[0].data.clone();
    for i in 0..p.count {
        let to = block(inputs[1], &p.dims, i);
        for e in 0..p.inner {
            meet(p.reduce, &mut out[0], to * p.inner + e, inputs[2], i * p.inner + e);
        }
    }
}

pub(super) fn resample(p: &Resample, inputs: &[&Tensor], out: &mut [Tensor]) {
    for o in 0..p.outer {
        for i in 0..p.count {
            for e in 0..p.inner {
                let term = |t: usize| {
                    let at = position(inputs[1].i(i * p.taps + t), p.n);
                    inputs[2].f(i * p.taps + t) * inputs[0].f((o * p.n + at) * p.inner + e)
                };
                map::store(&mut out[0], (o * p.count + i) * p.inner + e, Value::F((0..p.taps).map(term).sum()));
            }
        }
    }
}

pub(super) fn scan(p: &Scan, inputs: &[&Tensor], out: &mut [Tensor]) {
    let unit = i64::from(p.product);
    for o in 0..p.outer {
        for e in 0..p.inner {
            let mut total = if p.dtype.is_float() { Value::F(unit as f64) } else { Value::I(unit) };
            for step in 0..p.n {
                let i = if p.reverse { p.n - 1 - step } else { step };
                let at = (o * p.n + i) * p.inner + e;
                let next = binary(if p.product { Binary::Mul } else { Binary::Add }, total, map::value(inputs[0], at), p.dtype);
                map::store(&mut out[0], at, if p.exclusive { total } else { next });
                total = next;
            }
        }
    }
}

/// Whether `x` comes before `y`.
fn before(x: Value, y: Value, largest: bool, dtype: wpk_plan::DType) -> bool {
    let less = |x, y| binary(Binary::Lt, x, y, dtype) == Value::I(1);
    if largest { less(y, x) } else { less(x, y) }
}

/// Whether `x` comes before `y` in an order where what is no number is larger than all that are.
fn ahead(x: Value, y: Value, p: &TopK) -> bool {
    let not = |v: Value| matches!(v, Value::F(v) if v.is_nan());
    let (low, high) = if p.largest { (y, x) } else { (x, y) };
    before(x, y, p.largest, p.dtype) || not(high) && !not(low)
}

pub(super) fn top_k(p: &TopK, inputs: &[&Tensor], out: &mut [Tensor]) {
    for o in 0..p.outer {
        for e in 0..p.inner {
            let at = |i: usize| (o * p.n + i) * p.inner + e;
            let mut order: Vec<usize> = (0..p.n).collect();
            order.sort_by(|&i, &j| {
                let (x, y) = (map::value(inputs[0], at(i)), map::value(inputs[0], at(j)));
                ahead(y, x, p).cmp(&ahead(x, y, p)).then(i.cmp(&j))
            });
            for (k, &i) in order.iter().take(p.k).enumerate() {
                let to = (o * p.k + k) * p.inner + e;
                out[0].set(to, inputs[0], at(i));
                map::store(&mut out[1], to, Value::I(i as i64));
            }
        }
    }
}

pub(super) fn arg_reduce(p: &ArgReduce, inputs: &[&Tensor], out: &mut [Tensor]) {
    for o in 0..p.outer {
        for e in 0..p.inner {
            let value = |i: usize| map::value(inputs[0], (o * p.n + i) * p.inner + e);
            let best = (1..p.n).fold(0, |best, i| {
                let better = if p.last {
                    !before(value(best), value(i), p.largest, p.dtype)
                } else {
                    before(value(i), value(best), p.largest, p.dtype)
                };
                if better { i } else { best }
            });
            map::store(&mut out[0], o * p.inner + e, Value::I(best as i64));
        }
    }
}
