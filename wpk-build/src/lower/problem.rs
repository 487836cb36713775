//! One operation as a problem over given operands.

use crate::graph::{Conv, Op};
use wpk_plan::problem::{
    Access, Affine, ArgReduce, Attention, Contraction, Custom, Gather, GatherElements, GatherNd, Map, Move, Normalize, Operand, Part,
    Problem, Reduce, Resample, Scan, ScatterElements, ScatterNd, Softmax, TopK, Window,
};
use wpk_plan::{DType, ScalarFn, View};

/// The problem that an operation is on its operands; `None` for a reshape, which computes nothing.
///
/// Operands of the index families must be dense; all others may be any view of the right shape.
pub fn problem(op: &Op, inputs: &[Operand], outputs: &[Operand]) -> Option<Problem> {
    let (x, out) = (inputs.first(), outputs[0].clone());
    let broadcast = |o: &Operand, shape: &[usize]| o.view.broadcast(shape).map(|view| Operand { dtype: o.dtype, view });
    let split = |o: &Operand, axis: usize| {
        let s = &o.view.shape;
        (s[..axis].iter().product::<usize>(), s[axis], s[axis + 1..].iter().product::<usize>())
    };
    Some(match op {
        Op::Reshape(_) => return None,
        Op::Map { function, shape } => Problem::Map(Map {
            shape: shape.clone(),
            inputs: inputs.iter().map(|i| broadcast(i, shape)).collect::<Option<_>>()?,
            function: function.clone(),
            outputs: outputs.to_vec(),
        }),
        Op::Transpose(_) | Op::Slice { .. } | Op::Expand(_) => {
            let from = crate::graph::view(op, &x?.view)?;
            Problem::Move(Move { dtype: out.dtype, parts: vec![Part { from, to: out.view.clone() }], out: out.view, fill: None })
        }
        Op::BitCast(to) => {
            let part = Part { from: inputs[0].view.clone(), to: out.view.clone() };
            Problem::Move(Move { dtype: *to, parts: vec![part], out: out.view.clone(), fill: None })
        }
        Op::Concat(axis) => {
            let mut at = 0;
            let parts = inputs.iter().map(|i| {
                let mut start = vec![0; i.view.shape.len()];
                start[*axis] = at;
                at += i.view.shape[*axis];
                Part { from: i.view.clone(), to: out.view.slice(&start, &vec![1; start.len()], &i.view.shape) }
            });
            Problem::Move(Move { dtype: out.dtype, parts: parts.collect(), out: out.view.clone(), fill: None })
        }
        Op::Pad { before, fill, .. } => {
            let from = x?.view.clone();
            let to = out.view.slice(before, &vec![1; before.len()], &from.shape);
            Problem::Move(Move { dtype: out.dtype, parts: vec![Part { from, to }], out: out.view, fill: Some(*fill) })
        }
        Op::Conv(c) => Problem::Contraction(conv(c, inputs, out)?),
        Op::Contract { a, b, out: labels, epilogue } => Problem::Contraction(contract(a, b, labels, epilogue.as_ref(), inputs, out)?),
        Op::Reduce { kind, axes } => Problem::Reduce(Reduce { kind: *kind, input: x?.clone(), axes: axes.clone(), output: out }),
        Op::Window { kind, dims, count_pad, .. } => Problem::Window(Window {
            kind: *kind,
            dims: dims.clone(),
            count_pad: *count_pad,
            input: x?.clone(),
            output: out,
            indices: outputs.get(1).cloned(),
        }),
        Op::Softmax { log } => Problem::Softmax(Softmax { log: *log, input: x?.clone(), output: out }),
        Op::Normalize { kind, epsilon, residual, scale, bias } => {
            let shape = x?.view.shape.clone();
            let mut rest = inputs[1..].iter().map(|o| broadcast(o, &shape));
            let mut next = |wanted: bool| if wanted { rest.next().flatten() } else { None };
            let residual = next(*residual).map(|r| (r, outputs.get(1).cloned()));
            Problem::Normalize(Normalize {
                kind: *kind,
                epsilon: *epsilon,
                input: x?.clone(),
                residual,
                scale: next(*scale),
                bias: next(*bias),
                output: out,
            })
        }
        Op::Attention { scale, mask } => {
            let [q, k, v, ..] = inputs else { return None };
            let scores = [&q.view.shape[..3], &k.view.shape[2..3]].concat();
            let mask = if *mask { Some(broadcast(&inputs[3], &scores)?) } else { None };
            Problem::Attention(Attention { scale: *scale, tf32: false, q: q.clone(), k: k.clone(), v: v.clone(), mask, out })
        }
        Op::Gather { axis } => {
            let (outer, n, inner) = split(x?, *axis);
            Problem::Gather(Gather { dtype: out.dtype, index: inputs[1].dtype, outer, n, inner, count: inputs[1].view.len() })
        }
        Op::GatherElements { axis } => {
            let index = inputs[1].dtype;
            Problem::GatherElements(GatherElements {
                dtype: out.dtype,
                index,
                shape: x?.view.shape.clone(),
                out: out.view.shape,
                axis: *axis,
            })
        }
        Op::GatherNd { batch } => {
            let (s, i) = (&x?.view.shape, &inputs[1].view.shape);
            let depth = i[i.len() - 1];
            Problem::GatherNd(GatherNd {
                dtype: out.dtype,
                index: inputs[1].dtype,
                batch: s[..*batch].iter().product(),
                dims: s[*batch..batch + depth].to_vec(),
                inner: s[batch + depth..].iter().product(),
                count: i[*batch..i.len() - 1].iter().product(),
            })
        }
        Op::ScatterElements { axis, reduce } => Problem::ScatterElements(ScatterElements {
            dtype: out.dtype,
            index: inputs[1].dtype,
            shape: out.view.shape,
            updates: inputs[1].view.shape.clone(),
            axis: *axis,
            reduce: *reduce,
        }),
        Op::ScatterNd { reduce } => {
            let (s, i) = (&x?.view.shape, &inputs[1].view.shape);
            let depth = i[i.len() - 1];
            Problem::ScatterNd(ScatterNd {
                dtype: out.dtype,
                index: inputs[1].dtype,
                dims: s[..depth].to_vec(),
                inner: s[depth..].iter().product(),
                count: i[..i.len() - 1].iter().product(),
                reduce: *reduce,
            })
        }
        Op::Resample { axis } => {
            let (outer, n, inner) = split(x?, *axis);
            let [count, taps] = inputs[1].view.shape[..] else { return None };
            Problem::Resample(Resample { dtype: out.dtype, outer, n, count, taps, inner })
        }
        Op::Scan { axis, product, exclusive, reverse } => {
            let (outer, n, inner) = split(x?, *axis);
            Problem::Scan(Scan { dtype: out.dtype, outer, n, inner, product: *product, exclusive: *exclusive, reverse: *reverse })
        }
        Op::TopK { axis, k, largest } => {
            let (outer, n, inner) = split(x?, *axis);
            Problem::TopK(TopK { dtype: out.dtype, outer, n, inner, k: *k, largest: *largest })
        }
        Op::Custom(call) => Problem::Custom(Custom {
            name: call.name.clone(),
            symbol: call.symbol.clone(),
            reads: call.inputs.clone(),
            writes: call.results().to_vec(),
        }),
        Op::ArgReduce { axis, largest, last } => {
            let (outer, n, inner) = split(x?, *axis);
            Problem::ArgReduce(ArgReduce { dtype: x?.dtype, outer, n, inner, largest: *largest, last: *last })
        }
    })
}

fn finish(
    space: Vec<usize>,
    outer: usize,
    dtype: DType,
    (a, b): (Access, Access),
    epilogue: Option<&ScalarFn>,
    extras: &[Operand],
    out: Operand,
) -> Option<Contraction> {
    let over = |o: &Operand| Some(Operand { dtype: o.dtype, view: o.view.broadcast(&out.view.shape)? });
    let extras = extras.iter().map(over).collect::<Option<_>>()?;
    // Half types are multiplied exactly and summed in single precision.
    let sum = if dtype.is_float() && dtype.bytes() == 2 { DType::F32 } else { crate::graph::sum_of(dtype) };
    let epilogue = epilogue.cloned().unwrap_or_else(|| {
        let mut plain = ScalarFn::identity(sum);
        plain.outputs = vec![plain.cast(0, out.dtype)];
        plain
    });
    Some(Contraction { space, outer, dtype, given: dtype, tf32: false, a, b, sum, extras, epilogue, out })
}

fn contract(a: &[u8], b: &[u8], out: &[u8], epilogue: Option<&ScalarFn>, inputs: &[Operand], target: Operand) -> Option<Contraction> {
    let [x, y, extras @ ..] = inputs else { return None };
    let mut labels = out.to_vec();
    for l in a.iter().chain(b) {
        if !labels.contains(l) {
            labels.push(*l);
        }
    }
    let extent = |l: &u8| {
        let in_a = a.iter().position(|m| m == l).map(|d| x.view.shape[d]);
        in_a.or_else(|| b.iter().position(|m| m == l).map(|d| y.view.shape[d]))
    };
    let space = labels.iter().map(extent).collect::<Option<Vec<_>>>()?;
    let index = |side: &[u8]| side.iter().map(|l| Affine::of(labels.iter().position(|m| m == l).unwrap_or(0))).collect();
    let accesses = (Access::new(&x.view, index(a)), Access::new(&y.view, index(b)));
    finish(space, out.len(), x.dtype, accesses, epilogue, extras, target)
}

/// Loops: batch, group, channel out of the group, then spatial; reduced: channel in of the group, then the window.
/// A convolution in one group has no group loop. The output's loops follow its memory layout.
fn conv(c: &Conv, inputs: &[Operand], out: Operand) -> Option<Contraction> {
    let [x, w, extras @ ..] = inputs else { return None };
    let rank = c.out.len();
    let channel = if c.channels_last { rank + 1 } else { 1 };
    let spatial = |d: usize| if c.channels_last { 1 + d } else { 2 + d };
    let (per_in, per_out) =
        if c.transposed { (w.view.shape[0] / c.groups, w.view.shape[1]) } else { (w.view.shape[1], w.view.shape[0] / c.groups) };
    let grouped = c.groups > 1;
    let parts = |per: usize| if grouped { vec![c.groups, per] } else { vec![per] };
    let expand = |view: &View, axis: usize, per: usize| {
        let shape = [&view.shape[..axis], &parts(per), &view.shape[axis + 1..]].concat();
        view.reshape(&shape).or_else(|| split_axis(view, axis, &parts(per)))
    };
    // The output and its loops, channels split into groups.
    let target = Operand { dtype: out.dtype, view: expand(&out.view, channel, per_out)? };
    let shift = usize::from(grouped);
    let at = |d: usize| if d > channel { d + shift } else { d };
    let outer = target.view.shape.len();
    let (group, channel_out) = (channel, channel + shift);
    // Channels that the input lacks come last: those of a position lie together then, whatever the input's layout.
    let lacks = c.lacks_channels(&x.view.shape, &w.view.shape);
    let channel_in = if lacks { outer + rank } else { outer };
    let mut space = target.view.shape.clone();
    space.extend(&w.view.shape[2..]);
    space.insert(channel_in, per_in);
    let tap = |d: usize| if lacks { outer + d } else { outer + 1 + d };

    let view = if lacks { x.view.clone() } else { expand(&x.view, channel, per_in)? };
    let mut index: Vec<Affine> = (0..view.shape.len()).map(Affine::of).collect();
    index[channel_out] = Affine::of(channel_in);
    for d in 0..rank {
        let (o, k) = (at(spatial(d)) as u8, tap(d) as u8);
        index[at(spatial(d))] = if c.transposed {
            Affine { offset: c.pads[d], terms: vec![(o, 1), (k, -(c.dilations[d] as i64))], divisor: c.strides[d] as i64 }
        } else {
            Affine { offset: -c.pads[d], terms: vec![(o, c.strides[d] as i64), (k, c.dilations[d] as i64)], divisor: 1 }
        };
    }
    let a = Access::new(&view, index);
    let (first, per_first) = if c.transposed { (channel_in, per_in) } else { (channel_out, per_out) };
    let second = if c.transposed { channel_out } else { channel_in };
    let weights = expand(&w.view, 0, per_first)?;
    let mut index = if grouped { vec![Affine::of(group)] } else { vec![] };
    index.extend([first, second].into_iter().chain((0..rank).map(tap)).map(Affine::of));
    let b = Access::new(&weights, index);
    let extras: Vec<Operand> = extras
        .iter()
        .map(|e| {
            let full = e.view.broadcast(&out.view.shape)?;
            Some(Operand { dtype: e.dtype, view: split_axis(&full, channel, &parts(per_out))? })
        })
        .collect::<Option<_>>()?;
    let contraction = finish(space, outer, w.dtype, (a, b), c.epilogue.as_ref(), &extras, target)?;
    Some(Contraction { given: x.dtype, ..contraction })
}

/// One dimension as several, whatever the strides of the others.
fn split_axis(view: &View, axis: usize, parts: &[usize]) -> Option<View> {
    let mut split = view.clone();
    let stride = split.strides.remove(axis);
    split.shape.remove(axis);
    let mut step = stride;
    for &n in parts.iter().rev() {
        split.shape.insert(axis, n);
        split.strides.insert(axis, step);
        step *= n as i64;
    }
    (split.len() == view.len()).then_some(split)
}
