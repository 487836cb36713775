//! Types of results.

use super::{Conv, Op};
use wpk_plan::DType;

/// The type of a tensor.
pub type Type = (DType, Vec<usize>);

/// Elements of the largest tensor that a model may have.
const LIMIT: usize = 1 << 40;

/// The types of an operation's results, or what is wrong with its inputs.
pub fn infer(op: &Op, inputs: &[Type]) -> Result<Vec<Type>, String> {
    let moves = op.moves() || matches!(op, Op::Map { .. });
    if let Some((t, _)) = inputs.iter().find(|t| t.0.is_storage() && !moves) {
        return Err(format!("elements of {t} are moved and converted only: convert them with Cast or DequantizeLinear first"));
    }
    let results = rule(op, inputs)?;
    for (dtype, shape) in &results {
        let bytes = shape.iter().try_fold(dtype.bytes(), |n, &d| n.checked_mul(d.max(1)));
        if bytes.is_none_or(|b| b > LIMIT) {
            return Err(format!("a result of {dtype}{shape:?} is too large"));
        }
    }
    Ok(results)
}

/// The extents to which shapes broadcast by the rules of numpy.
pub fn broadcast(shapes: &[&[usize]]) -> Result<Vec<usize>, String> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![1; rank];
    for shape in shapes {
        for (o, &n) in out[rank - shape.len()..].iter_mut().zip(*shape) {
            match (*o, n) {
                (_, 1) => {}
                (1, n) => *o = n,
                (o, n) if o == n => {}
                _ => return Err(format!("shapes {shapes:?} do not broadcast")),
            }
        }
    }
    Ok(out)
}

fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(message()) }
}

fn rule(op: &Op, inputs: &[Type]) -> Result<Vec<Type>, String> {
    let get = |i: usize| inputs.get(i).ok_or_else(|| format!("input {i} is missing"));
    let one = |t: DType, s: Vec<usize>| Ok(vec![(t, s)]);
    match op {
        Op::Map { function, shape } => {
            for (t, s) in inputs {
                ensure(broadcast(&[s, shape]).as_deref() == Ok(shape), || format!("{t}{s:?} does not broadcast to {shape:?}"))?;
            }
            Ok(function.outputs.iter().map(|&o| (function.dtype(o), shape.clone())).collect())
        }
        Op::Reshape(shape) => {
            let (t, s) = get(0)?;
            let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            ensure(len == Some(s.iter().product()), || format!("{t}{s:?} cannot be reshaped to {shape:?}"))?;
            one(*t, shape.clone())
        }
        Op::BitCast(to) => {
            let (t, s) = get(0)?;
            let sizes = [*t, *to].map(DType::packed_bits);
            ensure(sizes[0] == sizes[1], || format!("elements of {t} have {} bits, those of {to} {}", sizes[0], sizes[1]))?;
            one(*to, s.clone())
        }
        Op::Transpose(perm) => {
            let (t, s) = get(0)?;
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            ensure(sorted.iter().copied().eq(0..s.len()), || format!("{perm:?} does not permute the dimensions of {t}{s:?}"))?;
            one(*t, perm.iter().map(|&p| s[p]).collect())
        }
        Op::Slice { start, step, count } => {
            let (t, s) = get(0)?;
            ensure([start.len(), step.len(), count.len()] == [s.len(); 3], || "slice and input differ in rank".to_owned())?;
            for d in 0..s.len() {
                let last = start[d] as i64 + (count[d] as i64 - 1) * step[d];
                let fits = count[d] == 0 || start[d] < s[d] && (0..s[d] as i64).contains(&last);
                ensure(fits, || format!("the slice leaves dimension {d} of {t}{s:?}"))?;
            }
            one(*t, count.clone())
        }
        Op::Expand(shape) => {
            let (t, s) = get(0)?;
            ensure(broadcast(&[s, shape]).as_deref() == Ok(shape), || format!("{t}{s:?} does not broadcast to {shape:?}"))?;
            one(*t, shape.clone())
        }
        Op::Concat(axis) => {
            let (t, first) = get(0)?;
            ensure(*axis < first.len(), || format!("axis {axis} is not in {t}{first:?}"))?;
            let mut out = first.clone();
            out[*axis] = 0;
            for (u, s) in inputs {
                let fits = u == t && s.len() == first.len() && (0..s.len()).all(|d| d == *axis || s[d] == first[d]);
                ensure(fits, || format!("{u}{s:?} cannot be concatenated with {t}{first:?} along axis {axis}"))?;
                out[*axis] += s[*axis];
            }
            one(*t, out)
        }
        Op::Pad { before, after, .. } => {
            let (t, s) = get(0)?;
            ensure(before.len() == s.len() && after.len() == s.len(), || "padding and input differ in rank".to_owned())?;
            one(*t, (0..s.len()).map(|d| s[d].saturating_add(before[d]).saturating_add(after[d])).collect())
        }
        Op::Conv(conv) => self::conv(conv, inputs),
        Op::Contract { a, b, out, epilogue } => {
            let ((t, sa), (u, sb)) = (get(0)?, get(1)?);
            ensure(t == u, || format!("factors are {t} and {u}"))?;
            ensure(a.len() == sa.len() && b.len() == sb.len(), || "labels and factors differ in rank".to_owned())?;
            let mut extents: Vec<(u8, usize)> = vec![];
            for (&l, &n) in a.iter().chain(b).zip(sa.iter().chain(sb)) {
                match extents.iter().find(|e| e.0 == l) {
                    Some(&(_, m)) => ensure(m == n, || format!("shapes {sa:?} and {sb:?} do not match"))?,
                    None => extents.push((l, n)),
                }
            }
            let shape = out.iter().map(|l| extents.iter().find(|e| e.0 == *l).map(|e| e.1).ok_or("a result label is not in the factors"));
            finish(*t, shape.collect::<Result<Vec<_>, _>>()?, epilogue.as_ref(), &inputs[2..])
        }
        Op::Reduce { axes, .. } => {
            let (t, s) = get(0)?;
            ensure(axes.len() == s.len(), || "axes and input differ in rank".to_owned())?;
            one(*t, s.iter().zip(axes).map(|(&n, &r)| if r { 1 } else { n }).collect())
        }
        Op::Window { dims, out, indices, .. } => {
            let (t, s) = get(0)?;
            ensure(dims.len() == s.len() && out.len() == s.len(), || "window and input differ in rank".to_owned())?;
            ensure(dims.iter().all(|d| d.size > 0 && d.stride > 0 && d.dilation > 0), || "a window has no extent or stride".to_owned())?;
            let taps = dims.iter().try_fold(1usize, |n, d| n.checked_mul(d.size)).filter(|&n| n < 1 << 24);
            ensure(taps.is_some(), || "a window is too large".to_owned())?;
            let mut results = vec![(*t, out.clone())];
            results.extend(indices.then(|| (DType::I64, out.clone())));
            Ok(results)
        }
        Op::Softmax { .. } => {
            let (t, s) = get(0)?;
            ensure(t.is_float() && !s.is_empty(), || format!("{t}{s:?} is not a floating tensor with a dimension"))?;
            one(*t, s.clone())
        }
        Op::Normalize { residual, .. } => {
            let (t, s) = get(0)?;
            ensure(t.is_float() && !s.is_empty(), || format!("{t}{s:?} is not a floating tensor with a dimension"))?;
            for (u, p) in &inputs[1..] {
                ensure(broadcast(&[p, s]).as_ref() == Ok(s) && u.is_float(), || format!("{u}{p:?} does not broadcast to {t}{s:?}"))?;
            }
            Ok(vec![(*t, s.clone()); if *residual { 2 } else { 1 }])
        }
        Op::Attention { mask, .. } => {
            let ((t, q), (_, k), (_, v)) = (get(0)?, get(1)?, get(2)?);
            let ([b, h, s, d], [kb, kh, n, kd], [vb, vh, vn, w]) = (&q[..], &k[..], &v[..]) else {
                return Err("attention takes four dimensions".to_owned());
            };
            let fits = [kb, vb] == [b, b] && [kh, vh] == [h, h] && d == kd && n == vn && t.is_float();
            ensure(fits, || format!("queries {q:?}, keys {k:?} and values {v:?} do not match"))?;
            if *mask {
                let scores = vec![*b, *h, *s, *n];
                let m = &get(3)?.1;
                ensure(broadcast(&[m, &scores]).as_ref() == Ok(&scores), || format!("mask {m:?} does not broadcast to {scores:?}"))?;
            }
            one(*t, vec![*b, *h, *s, *w])
        }
        Op::Gather { axis } => {
            let ((t, s), (_, i)) = (get(0)?, get(1)?);
            ensure(*axis < s.len(), || format!("axis {axis} is not in {t}{s:?}"))?;
            ensure(s[*axis] > 0 || i.contains(&0), || format!("{t}{s:?} has nothing to gather"))?;
            one(*t, [&s[..*axis], i, &s[axis + 1..]].concat())
        }
        Op::GatherElements { axis } => {
            let ((t, s), (_, i)) = (get(0)?, get(1)?);
            let fits = s.len() == i.len() && *axis < s.len() && (0..s.len()).all(|d| d == *axis || i[d] <= s[d]);
            ensure(fits, || format!("indices {i:?} do not fit {t}{s:?} along axis {axis}"))?;
            one(*t, i.clone())
        }
        Op::GatherNd { batch } => {
            let ((t, s), (_, i)) = (get(0)?, get(1)?);
            let depth = *i.last().ok_or("indices have no dimension")?;
            let fits = *batch < i.len() && batch + depth <= s.len() && s[..*batch] == i[..*batch];
            ensure(fits, || format!("indices {i:?} do not fit {t}{s:?} after {batch} batch dimensions"))?;
            one(*t, [&i[..i.len() - 1], &s[batch + depth..]].concat())
        }
        Op::ScatterElements { axis, .. } => {
            let ((t, s), (_, i), (_, u)) = (get(0)?, get(1)?, get(2)?);
            let fits = i == u && s.len() == i.len() && *axis < s.len() && (0..s.len()).all(|d| d == *axis || i[d] <= s[d]);
            ensure(fits, || format!("indices {i:?} and updates {u:?} do not fit {t}{s:?}"))?;
            one(*t, s.clone())
        }
        Op::ScatterNd { .. } => {
            let ((t, s), (_, i), (_, u)) = (get(0)?, get(1)?, get(2)?);
            let depth = *i.last().ok_or("indices have no dimension")?;
            ensure(depth <= s.len() && *u == [&i[..i.len() - 1], &s[depth.min(s.len())..]].concat(), || {
                format!("indices {i:?} and updates {u:?} do not fit {t}{s:?}")
            })?;
            one(*t, s.clone())
        }
        Op::Resample { axis } => {
            let ((t, s), (_, i), (_, w)) = (get(0)?, get(1)?, get(2)?);
            ensure(*axis < s.len() && i == w && i.len() == 2 && s[*axis] > 0, || {
                format!("taps {i:?} do not fit {t}{s:?} along axis {axis}")
            })?;
            let mut out = s.clone();
            out[*axis] = i[0];
            one(*t, out)
        }
        Op::Scan { axis, .. } => {
            let (t, s) = get(0)?;
            ensure(*axis < s.len(), || format!("axis {axis} is not in {t}{s:?}"))?;
            one(*t, s.clone())
        }
        Op::TopK { axis, k, .. } => {
            let (t, s) = get(0)?;
            ensure(*axis < s.len() && *k <= s[*axis], || format!("{k} elements cannot be taken of {t}{s:?} along axis {axis}"))?;
            let mut out = s.clone();
            out[*axis] = *k;
            Ok(vec![(*t, out.clone()), (DType::I64, out)])
        }
        Op::Custom(call) => {
            ensure(call.inputs == inputs, || format!("{} was made for {:?}, not for {inputs:?}", call.name, call.inputs))?;
            Ok(call.results().to_vec())
        }
        Op::ArgReduce { axis, .. } => {
            let (t, s) = get(0)?;
            ensure(*axis < s.len() && s[*axis] > 0, || format!("axis {axis} of {t}{s:?} has no element"))?;
            let mut out = s.clone();
            out[*axis] = 1;
            one(DType::I64, out)
        }
    }
}

/// The type that products of factors are summed in, before any epilogue: that of the factors, but for bytes.
pub fn sum_of(factors: DType) -> DType {
    if factors == DType::I8 { DType::I32 } else { factors }
}

/// The result of a sum after its epilogue.
fn finish(sum: DType, shape: Vec<usize>, epilogue: Option<&wpk_plan::ScalarFn>, extras: &[Type]) -> Result<Vec<Type>, String> {
    for (t, s) in extras {
        ensure(broadcast(&[s, &shape]).as_ref() == Ok(&shape), || format!("{t}{s:?} does not broadcast to {shape:?}"))?;
    }
    Ok(vec![(epilogue.map_or(sum_of(sum), |f| f.dtype(f.outputs[0])), shape)])
}

fn conv(c: &Conv, inputs: &[Type]) -> Result<Vec<Type>, String> {
    let [(t, x), (u, w), extras @ ..] = inputs else { return Err("a convolution takes an input and weights".to_owned()) };
    let rank = c.out.len();
    let rounded = c.channels_last && *t == DType::F32 && u.is_float() && u.bytes() == 2;
    ensure(t == u || rounded, || format!("input is {t}, weights are {u}"))?;
    ensure(x.len() == rank + 2 && w.len() == rank + 2, || format!("input {x:?} and weights {w:?} do not have {} dimensions", rank + 2))?;
    let channels = x[if c.channels_last { rank + 1 } else { 1 }];
    let lists = [c.strides.len(), c.pads.len(), c.dilations.len()];
    ensure(lists == [rank; 3], || "strides, pads or dilations differ in number from the spatial dimensions".to_owned())?;
    ensure(c.groups > 0 && c.strides.iter().chain(&c.dilations).all(|&n| n > 0), || {
        "groups, strides and dilations must be positive".to_owned()
    })?;
    let (wanted, out) = if c.transposed { (w[0], w[1].saturating_mul(c.groups)) } else { (w[1].saturating_mul(c.groups), w[0]) };
    let divisible = out % c.groups == 0 && channels % c.groups == 0;
    ensure((channels == wanted || c.lacks_channels(x, w)) && divisible, || {
        format!("weights {w:?} in {} groups do not take {channels} channels", c.groups)
    })?;
    let mut shape = vec![x[0]];
    shape.extend(if c.channels_last {
        c.out.iter().copied().chain([out]).collect::<Vec<_>>()
    } else {
        [out].into_iter().chain(c.out.iter().copied()).collect()
    });
    finish(*u, shape, c.epilogue.as_ref(), extras)
}
