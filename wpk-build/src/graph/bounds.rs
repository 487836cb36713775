//! Extents that are known only when a model runs. A bounded dimension is as long as the most there can be, and a count tells how many of its
//! elements exist; those behind them hold anything, even NaN.
//!
//! Every core operation has a rule here: what does not mix elements along the dimension is independent of them, sums and extremes over it see
//! a neutral element in their place, and everything else is refused, because its result would depend on them.

use super::{Builder, Literal, Op, Outcome, ValueId, broadcast};
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, DType};

/// A bounded dimension of a value: `scale` times as many elements exist as the count, a scalar of type `i64`, says, of every `period`, which
/// is the whole extent but where a reshape has merged the dimension with those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The dimension.
    pub axis: usize,
    /// How many there are.
    pub count: ValueId,
    /// Elements for each that is counted.
    pub scale: usize,
    /// Elements after which they begin anew.
    pub period: usize,
    /// What the count is at least.
    pub least: usize,
}

impl Bound {
    /// Of the first elements of a dimension.
    pub fn first(axis: usize, count: ValueId, extent: usize, least: usize) -> Self {
        Self { axis, count, scale: 1, period: extent, least }
    }

    fn at(self, axis: usize) -> Self {
        Self { axis, ..self }
    }

    /// How many of the first elements of an extent exist for sure.
    fn sure(self, extent: usize) -> usize {
        if self.period == extent { self.least * self.scale } else { 0 }
    }
}

/// Adds an operation some of whose inputs are bounded.
pub(super) fn add(b: &mut Builder, op: Op, inputs: &[ValueId]) -> Outcome<Vec<ValueId>> {
    let mut inputs = inputs.to_vec();
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|&i| b.shape(i)).collect();
    let bounds: Vec<Vec<Bound>> = inputs.iter().map(|&i| b.bounds_of(i)).collect();
    let axes = |i: usize| bounds.get(i).into_iter().flatten().copied().collect::<Vec<Bound>>();
    let mut out: Vec<Bound> = vec![];
    match &op {
        Op::Map { shape, .. } => {
            for (i, s) in shapes.iter().enumerate() {
                out.extend(axes(i).into_iter().map(|x| x.at(x.axis + shape.len() - s.len())));
            }
        }
        Op::BitCast(_) => out = axes(0),
        Op::Expand(to) => out.extend(axes(0).into_iter().map(|x| x.at(x.axis + to.len() - shapes[0].len()))),
        Op::Reshape(to) => {
            for x in axes(0) {
                out.push(reshaped(x, &shapes[0], to).ok_or_else(|| mixed(&format!("the reshape from {:?} to {to:?}", shapes[0]), x))?);
            }
        }
        Op::Transpose(perm) => {
            out.extend(axes(0).into_iter().filter_map(|x| Some(x.at(perm.iter().position(|&p| p == x.axis)?))));
        }
        Op::Slice { start, step, count } => {
            for x in axes(0) {
                let (from, by, n) = (start[x.axis], step[x.axis], count[x.axis]);
                let last = from as i64 + by * (n as i64 - 1).max(0);
                match (from == 0 && by == 1 && n == shapes[0][x.axis], from.max(last as usize) < x.sure(shapes[0][x.axis])) {
                    (true, _) => out.push(x),
                    (_, true) => {}
                    _ => return Err(mixed("a range of it", x)),
                }
            }
        }
        Op::Concat(axis) => {
            let along = |x: &Bound| x.axis == *axis;
            if let Some(x) = bounds.iter().flatten().find(|x| along(x)) {
                return Err(mixed("a concatenation", *x));
            }
            out = bounds.iter().flatten().copied().collect();
        }
        Op::Pad { before, after, .. } => {
            for x in axes(0) {
                let beside = before[x.axis] == 0 && after[x.axis] == 0;
                out.push(beside.then_some(x).ok_or_else(|| mixed("padding", x))?);
            }
        }
        Op::Conv(_) | Op::Window { .. } | Op::ScatterElements { .. } | Op::ScatterNd { .. } => {
            let beside = |x: &Bound| match &op {
                Op::Conv(_) => x.axis == 0,
                Op::Window { dims, out, .. } => dims[x.axis].size == 1 && out[x.axis] == shapes[0][x.axis],
                _ => false,
            };
            let others = (1..inputs.len()).flat_map(axes);
            if let Some(x) = axes(0).into_iter().filter(|x| !beside(x)).chain(others).next() {
                return Err(mixed(op.name(), x));
            }
            out = axes(0);
        }
        Op::GatherElements { .. } | Op::GatherNd { .. } => {
            // Along these dimensions of the data positions name elements, and behind them a block is taken as a whole.
            let (named, behind) = match &op {
                Op::GatherElements { axis } => (*axis..axis + 1, shapes[0].len()),
                Op::GatherNd { batch } => {
                    let depth = shapes[1].last().copied().unwrap_or(0);
                    (*batch..batch + depth, batch + depth)
                }
                _ => (0..0, 0),
            };
            for x in axes(0) {
                match (named.contains(&x.axis), x.axis >= behind) {
                    (true, _) => {
                        let blocks = matches!(op, Op::GatherNd { .. }).then(|| b.graph.literal(inputs[1])).flatten();
                        let own = blocks.and_then(|l| counting(l, x.axis - named.start, shapes[0][x.axis]));
                        out.push(own.map(|d| x.at(d)).ok_or_else(|| mixed("a gather from it", x))?);
                    }
                    (_, true) => out.push(x.at(x.axis - behind + shapes[1].len() - 1)),
                    _ => out.push(x),
                }
            }
            for x in axes(1) {
                inputs[1] = mask(b, inputs[1], x, 0.0)?;
                out.push(x);
            }
        }
        Op::Contract { a, b: right, out: labels, epilogue: _ } => {
            let mut summed: Vec<(u8, Bound)> = vec![];
            for (i, own) in [a, right].into_iter().enumerate() {
                for x in axes(i) {
                    match labels.iter().position(|&l| l == own[x.axis]) {
                        Some(at) => out.push(x.at(at)),
                        None => summed.push((own[x.axis], x)),
                    }
                }
            }
            // Neither factor's padding may meet a number: zero times NaN is NaN.
            for (label, x) in summed {
                for (i, own) in [a, right].into_iter().enumerate() {
                    if let Some(axis) = own.iter().position(|&l| l == label) {
                        inputs[i] = mask(b, inputs[i], x.at(axis), 0.0)?;
                    }
                }
            }
            if let Some(x) = (2..inputs.len()).flat_map(axes).next() {
                return Err(mixed("an epilogue", x));
            }
        }
        Op::Reduce { kind, axes: reduced } => {
            let summed: Vec<Bound> = axes(0).into_iter().filter(|x| reduced[x.axis]).collect();
            for &x in &summed {
                inputs[0] = mask(b, inputs[0], x, neutral(*kind, b.dtype(inputs[0])))?;
            }
            out.extend(axes(0).into_iter().filter(|x| !reduced[x.axis]));
            if *kind == ReduceKind::Mean && !summed.is_empty() {
                return mean(b, &op, inputs[0], (&shapes[0], reduced), &summed);
            }
        }
        Op::Softmax { .. } => {
            for x in axes(0) {
                if x.axis + 1 == shapes[0].len() {
                    inputs[0] = mask(b, inputs[0], x, f64::NEG_INFINITY)?;
                }
                out.push(x);
            }
        }
        Op::Normalize { .. } | Op::Resample { .. } | Op::TopK { .. } | Op::ArgReduce { .. } | Op::Scan { .. } => {
            let last = shapes[0].len() - 1;
            for x in axes(0) {
                let along = match &op {
                    Op::Resample { axis } | Op::TopK { axis, .. } | Op::ArgReduce { axis, .. } => x.axis == *axis,
                    Op::Normalize { .. } => x.axis == last,
                    Op::Scan { axis, .. } if x.axis == *axis && x.period < shapes[0][x.axis] => true,
                    Op::Scan { axis, product, reverse: true, .. } if x.axis == *axis => {
                        inputs[0] = mask(b, inputs[0], x, f64::from(u8::from(*product)))?;
                        false
                    }
                    _ => false,
                };
                out.push((!along).then_some(x).ok_or_else(|| mixed(op.name(), x))?);
            }
            // The residual of a normalization lies as the input; scale and bias are not bounded.
            if let Some(x) = (1..inputs.len()).flat_map(axes).find(|x| !out.contains(x)) {
                return Err(mixed(op.name(), x));
            }
        }
        Op::Attention { mask: masked, .. } => return attention(b, op.clone(), &inputs, &bounds, *masked),
        Op::Gather { axis } => {
            let known = b.graph.literal(inputs[1]).map(|l| l.to_ints());
            for x in axes(0) {
                let after = (x.axis + shapes[1].len()).saturating_sub(1);
                let there = known.as_ref().is_some_and(|i| i.iter().all(|&i| (0..x.sure(shapes[0][x.axis]) as i64).contains(&i)));
                match x.axis.cmp(axis) {
                    std::cmp::Ordering::Less => out.push(x),
                    std::cmp::Ordering::Greater => out.push(x.at(after)),
                    std::cmp::Ordering::Equal if there => {}
                    std::cmp::Ordering::Equal => return Err(mixed("a gather from it", x)),
                }
            }
            for x in axes(1) {
                inputs[1] = mask(b, inputs[1], x, 0.0)?;
                out.push(x.at(x.axis + axis));
            }
        }
        Op::Custom(_) => {
            if let Some(x) = bounds.iter().flatten().next() {
                return Err(mixed("a custom operator", *x));
            }
        }
    }
    let out = merged(out)?;
    let results = b.plain(op, &inputs)?;
    results.iter().for_each(|&r| b.bound(r, &out));
    Ok(results)
}

/// Why there is no rule.
fn mixed(what: &str, x: Bound) -> String {
    format!("dimension {} has as many elements as are known at run time only, and {what} depends on how many", x.axis)
}

/// The dimension of constant tuples of positions whose number in it is entry `entry` of every tuple: what is gathered exists where the number
/// is below the count.
fn counting(positions: &Literal, entry: usize, extent: usize) -> Option<usize> {
    let (depth, outer) = positions.shape.split_last()?;
    let values = positions.to_ints();
    (0..outer.len()).filter(|&d| outer[d] == extent).find(|&d| {
        let inner: usize = outer[d + 1..].iter().product();
        (0..values.len() / depth).all(|i| values[i * depth + entry] == (i / inner % outer[d]) as i64)
    })
}

/// Every bound once. A merged dimension has several, of different steps; two of the same steps do not belong together.
fn merged(all: Vec<Bound>) -> Outcome<Vec<Bound>> {
    let mut out: Vec<Bound> = vec![];
    for x in all {
        match out.iter().find(|y| (y.axis, y.period, y.scale) == (x.axis, x.period, x.scale)) {
            None => out.push(x),
            Some(y) if *y == x => {}
            Some(_) => return Err(format!("dimension {} has two numbers of elements that are known at run time only", x.axis)),
        }
    }
    out.sort_by_key(|x| (x.axis, x.period));
    Ok(out)
}

/// Where a dimension is after a reshape. In row-major order an element exists where its number in blocks of `period` is below the count's
/// multiple; the dimension of the result is the one whose steps and extent both fit these blocks.
fn reshaped(x: Bound, from: &[usize], to: &[usize]) -> Option<Bound> {
    let inner: usize = from[x.axis + 1..].iter().product();
    let (period, scale) = (x.period * inner, x.scale * inner);
    let fits = |axis: &usize| {
        let step: usize = to[axis + 1..].iter().product();
        step > 0 && period.is_multiple_of(step) && scale.is_multiple_of(step) && (to[*axis] * step).is_multiple_of(period)
    };
    let axis = (0..to.len()).find(fits)?;
    let step: usize = to[axis + 1..].iter().product();
    Some(Bound { axis, scale: scale / step, period: period / step, ..x })
}

/// A value whose padding is a number.
pub(crate) fn mask(b: &mut Builder, v: ValueId, x: Bound, fill: f64) -> Outcome<ValueId> {
    let (dtype, extent) = (b.dtype(v), b.shape(v)[x.axis]);
    let masked = b.map(&[v, x.count], |f, i| {
        let (mut at, scale) = (f.index(x.axis), f.integer(x.scale as i64, DType::I64));
        if x.period < extent {
            let period = f.integer(x.period as i64, DType::I64);
            at = f.binary(Binary::Rem, at, period);
        }
        let end = f.binary(Binary::Mul, i[1], scale);
        let exists = f.binary(Binary::Lt, at, end);
        let fill = if dtype.is_float() { f.constant(fill, dtype) } else { f.integer(fill.clamp(-9.3e18, 9.3e18) as i64, dtype) };
        f.select(exists, i[0], fill)
    })?;
    b.masks.push(masked);
    Ok(masked)
}

/// What a reduction does not notice.
fn neutral(kind: ReduceKind, dtype: DType) -> f64 {
    let (low, high) = match dtype {
        _ if dtype.is_float() => (f64::NEG_INFINITY, f64::INFINITY),
        DType::Bool => (0.0, 1.0),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => (0.0, 2f64.powi(8 * dtype.bytes() as i32) - 1.0),
        _ => (-(2f64.powi(8 * dtype.bytes() as i32 - 1)), 2f64.powi(8 * dtype.bytes() as i32 - 1) - 1.0),
    };
    match kind {
        ReduceKind::Sum | ReduceKind::Mean | ReduceKind::SumAbs | ReduceKind::SumSquare => 0.0,
        ReduceKind::Prod => 1.0,
        ReduceKind::Max => low,
        ReduceKind::Min => high,
    }
}

/// The mean of as many elements as there are, of a value with zeros behind them.
fn mean(b: &mut Builder, op: &Op, v: ValueId, (shape, reduced): (&[usize], &[bool]), summed: &[Bound]) -> Outcome<Vec<ValueId>> {
    let Op::Reduce { axes, .. } = op else { return Err("no reduction".to_owned()) };
    let sum = b.one(Op::Reduce { kind: ReduceKind::Sum, axes: axes.clone() }, &[v])?;
    let others = (0..shape.len()).filter(|&d| reduced[d] && summed.iter().all(|x| x.axis != d));
    let fixed: usize = others.map(|d| shape[d]).product();
    let dtype = b.dtype(sum);
    let counts: Vec<ValueId> = [sum].into_iter().chain(summed.iter().map(|x| x.count)).collect();
    let scale = fixed * summed.iter().map(|x| x.scale * (shape[x.axis] / x.period)).product::<usize>();
    let mean = b.map(&counts, |f, i| {
        let mut n = f.integer(scale as i64, DType::I64);
        for &count in &i[1..] {
            n = f.binary(Binary::Mul, n, count);
        }
        let n = f.cast(n, dtype);
        f.binary(Binary::Div, i[0], n)
    })?;
    b.masks.push(mean);
    Ok(vec![mean])
}

/// Queries are independent of each other; keys and values that do not exist are masked, the values with zeros.
fn attention(b: &mut Builder, op: Op, inputs: &[ValueId], bounds: &[Vec<Bound>], masked: bool) -> Outcome<Vec<ValueId>> {
    let Op::Attention { scale, .. } = op else { return Err("no attention".to_owned()) };
    let mut inputs = inputs.to_vec();
    let mut out = vec![];
    for (i, own) in bounds.iter().enumerate().take(3) {
        for &x in own {
            match (i, x.axis) {
                (_, 0 | 1) | (0, 2) => out.push(x),
                (1 | 2, 2) => {}
                _ => return Err(mixed("attention", x)),
            }
        }
    }
    let keys = [1, 2].into_iter().flat_map(|i| bounds[i].iter().copied()).find(|x| x.axis == 2);
    let mut op = op;
    if let Some(x) = keys {
        inputs[1] = mask(b, inputs[1], x, 0.0)?;
        inputs[2] = mask(b, inputs[2], x, 0.0)?;
        let (dtype, n) = (b.dtype(inputs[0]), b.shape(inputs[1])[2]);
        let given = if masked { inputs[3] } else { b.scalar(0.0, dtype) };
        let shape = broadcast(&[b.graph.shape(given), &[1, 1, 1, n]])?;
        let given = b.one(Op::Expand(shape), &[given])?;
        let added = mask(b, given, Bound { axis: 3, ..x }, f64::NEG_INFINITY)?;
        inputs.truncate(3);
        inputs.push(added);
        op = Op::Attention { scale, mask: true };
    }
    let out = merged(out)?;
    let results = b.plain(op, &inputs)?;
    results.iter().for_each(|&r| b.bound(r, &out));
    Ok(results)
}
