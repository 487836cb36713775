//! Extents that are known only when a model runs. A bounded dimension is as long as the most there can be, and a count tells how many of its
//! elements exist; those behind them hold anything, even NaN.
//!
//! Every core operation has a rule here: what does not mix elements along the dimension is independent of them, sums and extremes over it see
//! a neutral element in their place, and everything else is refused, because its result would depend on them.

use super::{Builder, Linear, Literal, Op, Outcome, ValueId, broadcast, moved, shape};
use std::cmp::Ordering;
use std::ops::Range;
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, DType};

/// A bounded dimension of a value: the first `end` elements exist of every `period`, which is the whole extent but where a reshape has merged
/// the dimension with those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The dimension.
    pub axis: usize,
    /// How many elements exist.
    pub end: Linear,
    /// Elements after which they begin anew.
    pub period: usize,
}

impl Bound {
    /// Of the first elements of a dimension.
    pub fn first(axis: usize, end: Linear, extent: usize) -> Self {
        Self { axis, end, period: extent }
    }

    fn at(&self, axis: usize) -> Self {
        Self { axis, ..self.clone() }
    }
}

/// Adds an operation some of whose inputs are bounded.
pub(super) fn add(b: &mut Builder, op: Op, inputs: &[ValueId]) -> Outcome<Vec<ValueId>> {
    // Rules rely on shapes that fit.
    let types: Vec<_> = inputs.iter().map(|&i| (b.dtype(i), b.shape(i))).collect();
    shape::infer(&op, &types)?;
    if let Op::Concat(axis) = op
        && inputs.iter().any(|&i| b.bounds_of(i).iter().any(|x| x.axis == axis))
    {
        return Ok(vec![moved::joined(b, axis, inputs)?]);
    }
    let shapes = inputs.iter().map(|&i| b.shape(i)).collect();
    let bounds: Vec<Vec<Bound>> = inputs.iter().map(|&i| b.bounds_of(i)).collect();
    let mut rule = Rule { b, inputs: inputs.to_vec(), shapes, bounds, out: vec![] };
    let op = match op {
        Op::Reduce { kind: ReduceKind::Mean, ref axes } if rule.of(0).iter().any(|x| axes[x.axis]) => return rule.mean(axes),
        Op::Attention { scale, mask } => rule.attention(scale, mask)?,
        op => {
            rule.apply(&op)?;
            op
        }
    };
    let out = merged(std::mem::take(&mut rule.out))?;
    let results = rule.b.plain(op, &rule.inputs)?;
    Ok(results.into_iter().map(|r| b.bound(r, &out)).collect())
}

/// The bounds of the result of an operation that takes its inputs as they are.
pub(super) fn kept(b: &mut Builder, op: &Op, inputs: &[ValueId]) -> Option<Vec<Bound>> {
    let shapes = inputs.iter().map(|&i| b.shape(i)).collect();
    let bounds = inputs.iter().map(|&i| b.bounds_of(i)).collect();
    let mut rule = Rule { b, inputs: inputs.to_vec(), shapes, bounds, out: vec![] };
    rule.apply(op).ok().filter(|()| rule.inputs == inputs)?;
    merged(rule.out).ok()
}

/// An operation on its way into the graph: its inputs, which get masks, and what is bounded of them and of its results.
struct Rule<'a> {
    b: &'a mut Builder,
    inputs: Vec<ValueId>,
    shapes: Vec<Vec<usize>>,
    bounds: Vec<Vec<Bound>>,
    out: Vec<Bound>,
}

impl Rule<'_> {
    fn of(&self, input: usize) -> Vec<Bound> {
        self.bounds.get(input).cloned().unwrap_or_default()
    }

    /// The extent of the first input along a bounded dimension of it.
    fn extent(&self, x: &Bound) -> usize {
        self.shapes[0][x.axis]
    }

    /// How many of the first elements of the first input exist for sure.
    fn sure(&self, x: &Bound) -> usize {
        if x.period == self.extent(x) { self.b.span(&x.end).0.max(0) as usize } else { 0 }
    }

    /// Bounds of the first input are those of the result, in another place; those that get none have no rule.
    fn keep(&mut self, what: &str, place: impl Fn(&Bound) -> Option<Bound>) -> Outcome<()> {
        for x in self.of(0) {
            self.out.push(place(&x).ok_or_else(|| mixed(what, &x))?);
        }
        Ok(())
    }

    /// No input from `first` on is bounded.
    fn unbounded(&self, first: usize, what: &str) -> Outcome<()> {
        self.bounds.iter().skip(first).flatten().next().map_or(Ok(()), |x| Err(mixed(what, x)))
    }

    fn mask(&mut self, input: usize, x: &Bound, fill: f64) -> Outcome<()> {
        self.inputs[input] = mask(self.b, self.inputs[input], x, fill)?;
        Ok(())
    }

    fn apply(&mut self, op: &Op) -> Outcome<()> {
        let shape = self.shapes[0].clone();
        match op {
            Op::Map { shape: to, .. } => {
                for i in 0..self.inputs.len() {
                    let moved = to.len() - self.shapes[i].len();
                    let own = self.of(i);
                    self.out.extend(own.into_iter().map(|x| x.at(x.axis + moved)));
                }
                Ok(())
            }
            Op::BitCast(_) => self.keep("", |x| Some(x.clone())),
            Op::Expand(to) => self.keep("", |x| Some(x.at(x.axis + to.len() - shape.len()))),
            Op::Reshape(to) => self.keep(&format!("the reshape from {shape:?} to {to:?}"), |x| reshaped(x, &shape, to)),
            Op::Transpose(perm) => self.keep("", |x| perm.iter().position(|&p| p == x.axis).map(|axis| x.at(axis))),
            Op::Slice { start, step, count } => self.slice(start, step, count),
            // Along its own dimension `moved::joined` does it.
            Op::Concat(axis) => {
                let all: Vec<Bound> = self.bounds.iter().flatten().cloned().collect();
                let moved = all.iter().find(|x| x.axis == *axis).map(|x| mixed("a concatenation", x));
                self.out.extend(all);
                moved.map_or(Ok(()), Err)
            }
            Op::Pad { before, after, .. } => self.keep("padding", |x| (before[x.axis] == 0 && after[x.axis] == 0).then(|| x.clone())),
            Op::Conv(_) => {
                self.unbounded(1, "a convolution")?;
                self.keep("a convolution", |x| (x.axis == 0).then(|| x.clone()))
            }
            // Positions count through all dimensions behind the first.
            Op::Window { dims, out, indices, .. } => self.keep("a window", |x| {
                let beside = dims[x.axis].size == 1 && out[x.axis] == shape[x.axis] && !(*indices && x.axis > 0);
                beside.then(|| x.clone())
            }),
            Op::Contract { a, b, out, .. } => self.contract([a, b], out),
            Op::Reduce { kind, axes } => {
                let fill = neutral(*kind, self.b.dtype(self.inputs[0]));
                for x in self.of(0) {
                    match axes[x.axis] {
                        true => self.mask(0, &x, fill)?,
                        false => self.out.push(x),
                    }
                }
                Ok(())
            }
            Op::Softmax { .. } => {
                for x in self.of(0).into_iter().filter(|x| x.axis + 1 == shape.len()) {
                    self.mask(0, &x, f64::NEG_INFINITY)?;
                }
                self.keep("", |x| Some(x.clone()))
            }
            Op::Normalize { .. } => {
                // A residual lies as the input.
                let own = self.of(0);
                if let Some(x) = self.bounds.iter().skip(1).flatten().find(|x| !own.contains(x)) {
                    return Err(mixed("a normalization", x));
                }
                self.keep("a normalization", |x| (x.axis + 1 < shape.len()).then(|| x.clone()))
            }
            Op::Resample { axis } | Op::TopK { axis, .. } | Op::ArgReduce { axis, .. } => {
                self.unbounded(1, op.name())?;
                self.keep(op.name(), |x| (x.axis != *axis).then(|| x.clone()))
            }
            Op::Scan { axis, product, reverse, .. } => {
                for x in self.of(0).into_iter().filter(|x| x.axis == *axis && *reverse) {
                    self.mask(0, &x, f64::from(u8::from(*product)))?;
                }
                self.keep("a running sum", |x| (x.axis != *axis || x.period == shape[*axis]).then(|| x.clone()))
            }
            Op::Gather { axis } => self.gather(*axis),
            Op::GatherElements { axis } => self.gather_blocks(*axis..axis + 1, shape.len(), false),
            Op::GatherNd { batch } => {
                let behind = batch + self.shapes[1].last().copied().unwrap_or(0);
                self.gather_blocks(*batch..behind, behind, true)
            }
            Op::ScatterElements { .. } | Op::ScatterNd { .. } | Op::Custom(_) => self.unbounded(0, op.name()),
            Op::Attention { .. } => Ok(()),
        }
    }

    /// A range of elements that exist for sure has no bound.
    fn slice(&mut self, start: &[usize], step: &[i64], count: &[usize]) -> Outcome<()> {
        for x in self.of(0) {
            let (from, by, n, extent) = (start[x.axis], step[x.axis], count[x.axis], self.extent(&x));
            let last = from as i64 + by * (n as i64 - 1).max(0);
            if from == 0 && by == 1 && n == extent {
                self.out.push(x);
            } else if from.max(last as usize) >= self.sure(&x) {
                return Err(mixed("a range of it", &x));
            }
        }
        Ok(())
    }

    fn contract(&mut self, labels: [&Vec<u8>; 2], out: &[u8]) -> Outcome<()> {
        self.unbounded(2, "an epilogue")?;
        let mut summed: Vec<(u8, Bound)> = vec![];
        for (i, own) in labels.into_iter().enumerate() {
            for x in self.of(i) {
                match out.iter().position(|&l| l == own[x.axis]) {
                    Some(at) => self.out.push(x.at(at)),
                    None => summed.push((own[x.axis], x)),
                }
            }
        }
        // Neither factor's padding may meet a number: zero times NaN is NaN.
        for (label, x) in summed {
            for (i, own) in labels.into_iter().enumerate() {
                if let Some(axis) = own.iter().position(|&l| l == label) {
                    self.mask(i, &x.at(axis), 0.0)?;
                }
            }
        }
        Ok(())
    }

    /// Positions that do not exist become the first; of a bounded dimension only elements that exist for sure are taken.
    fn gather(&mut self, axis: usize) -> Outcome<()> {
        let positions = self.b.graph.literal(self.inputs[1]).cloned();
        let known = positions.as_ref().map(Literal::to_ints);
        for x in self.of(0) {
            let there = |i: &i64| (0..self.sure(&x) as i64).contains(i);
            let single = |l: &Literal| Literal { shape: [l.shape.as_slice(), &[1]].concat(), ..l.clone() };
            match x.axis.cmp(&axis) {
                Ordering::Less => self.out.push(x),
                Ordering::Greater => self.out.push(x.at(x.axis + self.shapes[1].len() - 1)),
                Ordering::Equal if known.as_ref().is_some_and(|k| k.iter().all(there)) => {}
                Ordering::Equal => {
                    let place = positions.as_ref().and_then(|l| counting(&single(l), 0, self.extent(&x)));
                    self.out.push(place.map(|d| x.at(axis + d)).ok_or_else(|| mixed("a gather from it", &x))?);
                }
            }
        }
        for x in self.of(1) {
            self.mask(1, &x, 0.0)?;
            self.out.push(x.at(x.axis + axis));
        }
        Ok(())
    }

    /// Positions name elements along some dimensions, and a block behind them is taken as a whole.
    fn gather_blocks(&mut self, named: Range<usize>, behind: usize, tuples: bool) -> Outcome<()> {
        for x in self.of(0) {
            let place = match (named.contains(&x.axis), x.axis >= behind) {
                (true, _) => {
                    let positions = self.b.graph.literal(self.inputs[1]).filter(|_| tuples);
                    positions.and_then(|l| counting(l, x.axis - named.start, self.extent(&x)))
                }
                (_, true) => Some(x.axis - behind + self.shapes[1].len() - 1),
                _ => Some(x.axis),
            };
            self.out.push(place.map(|axis| x.at(axis)).ok_or_else(|| mixed("a gather from it", &x))?);
        }
        for x in self.of(1) {
            self.mask(1, &x, 0.0)?;
            self.out.push(x);
        }
        Ok(())
    }

    /// The mean of as many elements as there are: their sum by their number.
    fn mean(self, axes: &[bool]) -> Outcome<Vec<ValueId>> {
        let summed: Vec<Bound> = self.of(0).into_iter().filter(|x| axes[x.axis]).collect();
        let shape = &self.shapes[0];
        let sum = self.b.one(Op::Reduce { kind: ReduceKind::Sum, axes: axes.to_vec() }, &self.inputs)?;
        let others = (0..shape.len()).filter(|&d| axes[d] && summed.iter().all(|x| x.axis != d));
        let fixed: usize = others.map(|d| shape[d]).product();
        let scale = fixed * summed.iter().map(|x| shape[x.axis] / x.period).product::<usize>();
        let counts = summed.iter().flat_map(|x| x.end.terms()).map(|t| t.0);
        let operands: Vec<ValueId> = [sum].into_iter().chain(counts).collect();
        let dtype = self.b.dtype(sum);
        let mean = self.b.map(&operands, |f, i| {
            let (mut n, mut at) = (f.integer(scale as i64, DType::I64), 1);
            for x in &summed {
                let end = x.end.within(f, &i[at..]);
                n = f.binary(Binary::Mul, n, end);
                at += x.end.terms().count();
            }
            let n = f.cast(n, dtype);
            f.binary(Binary::Div, i[0], n)
        })?;
        self.b.masks.push(mean);
        Ok(vec![mean])
    }

    /// Queries are independent of each other; keys and values that do not exist are masked, the values with zeros.
    fn attention(&mut self, scale: f64, masked: bool) -> Outcome<Op> {
        for i in 0..3 {
            for x in self.of(i) {
                match (i, x.axis) {
                    (_, 0 | 1) | (0, 2) => self.out.push(x),
                    (1 | 2, 2) => {}
                    _ => return Err(mixed("attention", &x)),
                }
            }
        }
        let keys = [1, 2].into_iter().flat_map(|i| self.of(i)).find(|x| x.axis == 2);
        let Some(x) = keys else {
            let last = self.shapes.get(3).map_or(0, |s| s.len().saturating_sub(1));
            let stray = self.of(3).into_iter().find(|x| x.axis == last);
            return stray.map_or(Ok(Op::Attention { scale, mask: masked }), |x| Err(mixed("attention", &x)));
        };
        self.mask(1, &x, 0.0)?;
        self.mask(2, &x, 0.0)?;
        let (dtype, n) = (self.b.dtype(self.inputs[0]), self.shapes[1][2]);
        let given = if masked { self.inputs[3] } else { self.b.scalar(0.0, dtype) };
        let shape = broadcast(&[self.b.graph.shape(given), &[1, 1, 1, n]])?;
        let given = self.b.one(Op::Expand(shape), &[given])?;
        let added = mask(self.b, given, &x.at(3), f64::NEG_INFINITY)?;
        self.inputs.truncate(3);
        self.inputs.push(added);
        Ok(Op::Attention { scale, mask: true })
    }
}

/// Why there is no rule.
pub(super) fn mixed(what: &str, x: &Bound) -> String {
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

/// Every bound once. A merged dimension has several, of different steps; two of the same steps do not belong together, unless they are the same number.
pub(super) fn merged(all: Vec<Bound>) -> Outcome<Vec<Bound>> {
    let mut out: Vec<Bound> = vec![];
    for x in all {
        match out.iter().find(|y| (y.axis, y.period) == (x.axis, x.period)) {
            None => out.push(x),
            Some(y) if *y == x => {}
            Some(_) => return Err(format!("dimension {} has two numbers of elements that are known at run time only", x.axis)),
        }
    }
    out.sort_by_key(|x| (x.axis, x.period));
    Ok(out)
}

/// Where a dimension is after a reshape. In row-major order an element exists where its number in blocks of `period` is below the end;
/// the dimension of the result is the one whose steps and extent both fit these blocks.
fn reshaped(x: &Bound, from: &[usize], to: &[usize]) -> Option<Bound> {
    let inner: usize = from[x.axis + 1..].iter().product();
    let (period, end) = (x.period * inner, x.end.times(inner as i64)?);
    let fitting = (0..to.len()).filter_map(|axis| {
        let step: usize = to[axis + 1..].iter().product();
        let fits = step > 0 && period.is_multiple_of(step) && (to[axis] * step).is_multiple_of(period);
        fits.then(|| Some(Bound { axis, end: end.divided(step as i64)?, period: period / step })).flatten()
    });
    fitting.into_iter().next()
}

/// A value whose padding is a number.
pub(crate) fn mask(b: &mut Builder, v: ValueId, x: &Bound, fill: f64) -> Outcome<ValueId> {
    let (dtype, extent) = (b.dtype(v), b.shape(v)[x.axis]);
    let inputs: Vec<ValueId> = [v].into_iter().chain(x.end.terms().map(|t| t.0)).collect();
    let masked = b.map(&inputs, |f, i| {
        let mut at = f.index(x.axis);
        if x.period < extent {
            let period = f.integer(x.period as i64, DType::I64);
            at = f.binary(Binary::Rem, at, period);
        }
        let end = x.end.within(f, &i[1..]);
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
