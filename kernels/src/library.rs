//! Contractions in the terms of vendor libraries, for those that call them instead of a generated kernel.

use wpk_plan::library::{Activation, Addend, Convolution, Form, Linear, MatrixProduct, Stage, Strided};
use wpk_plan::problem::{Contraction, Problem, Roles};
use wpk_plan::{Binary, DType, Expr, ScalarFn, Unary, WeightLayout};

/// A problem as libraries know it; `None` where they do not.
pub fn linear(problem: &Problem, layout: WeightLayout) -> Option<Linear> {
    let Problem::Contraction(c) = problem else { return None };
    let known = c.given == c.dtype
        && matches!(c.dtype, DType::F16 | DType::BF16 | DType::F32)
        && c.sum == DType::F32
        && layout != WeightLayout::Panels16;
    if !known || c.space.contains(&0) {
        return None;
    }
    let roles = c.roles();
    let (form, loops) = product(c, &roles, layout).or_else(|| convolution(c, &roles, layout))?;
    let epilogue = epilogue(c, &loops)?;
    Some(Linear { factors: c.dtype, tf32: c.tf32, out: c.out.dtype, form, epilogue })
}

/// The loops behind every dimension of a result.
type Loops = Vec<Vec<usize>>;

/// The stride of some loops taken as one, the last fastest; `None` where they are not one.
fn fused(stride: impl Fn(usize) -> Option<i64>, loops: &[usize], space: &[usize]) -> Option<i64> {
    let mut found = None;
    let mut next = 0;
    for &l in loops.iter().rev().filter(|&&l| space[l] > 1) {
        let own = stride(l)?;
        if found.is_some() && own != next {
            return None;
        }
        found = found.or(Some(own));
        next = own * space[l] as i64;
    }
    Some(found.unwrap_or(0))
}

/// The strides of the second factor by loop, as it is stored, and its first element.
fn second<'a>(c: &'a Contraction, roles: &'a Roles, layout: WeightLayout) -> (impl Fn(usize) -> Option<i64> + 'a, i64) {
    let packed = layout == WeightLayout::Columns;
    let column = roles.column_len(c.dtype.bytes()) as i64;
    let order: Vec<usize> = roles.batch.iter().chain(&roles.n).copied().collect();
    let k = roles.k();
    let stride = move |l: usize| {
        if !packed {
            return c.b.stride(l, &c.space);
        }
        let behind = |list: &[usize]| list.iter().rev().take_while(|&&x| x != l).map(|&x| c.space[x] as i64).product::<i64>();
        let in_column = k.contains(&l).then(|| behind(&k));
        in_column.or_else(|| order.contains(&l).then(|| column * behind(&order))).or(Some(0))
    };
    (stride, if packed { 0 } else { c.b.base() })
}

fn product(c: &Contraction, roles: &Roles, layout: WeightLayout) -> Option<(Form, Loops)> {
    let a = |l: usize| c.a.stride(l, &c.space);
    let (b, start) = second(c, roles, layout);
    let out = |l: usize| c.out.view.strides.get(l).copied();
    let k = roles.k();
    let groups = [&roles.batch, &roles.m, &roles.n, &k];
    let by = |f: &dyn Fn(usize) -> Option<i64>, which: [usize; 3]| -> Option<Vec<i64>> {
        which.iter().map(|&g| fused(f, groups[g], &c.space)).collect()
    };
    let form = MatrixProduct {
        extents: groups.iter().map(|g| roles.count(g) as i64).collect(),
        x: Strided { offset: c.a.base(), strides: by(&a, [0, 1, 3])? },
        w: Strided { offset: start, strides: by(&b, [0, 3, 2])? },
        out: Strided { offset: c.out.view.offset as i64, strides: by(&out, [0, 1, 2])? },
    };
    Some((Form::Product(form), vec![roles.batch.clone(), roles.m.clone(), roles.n.clone()]))
}

/// A spatial dimension: its extent and stride, the loops of windows and within a window, and how they move.
struct Side {
    extent: i64,
    stride: i64,
    window: Option<(usize, i64)>,
    tap: Option<(usize, i64)>,
    before: i64,
}

fn convolution(c: &Contraction, roles: &Roles, layout: WeightLayout) -> Option<(Form, Loops)> {
    let channel = roles.channel?;
    if !roles.batch.is_empty() || roles.n.len() != 1 {
        return None;
    }
    let mut sides: Vec<Side> = vec![];
    for d in &c.a.dims {
        let terms = d.index.terms.iter().filter(|t| c.space[usize::from(t.0)] > 1 && t.1 != 0).map(|&(l, x)| (usize::from(l), x));
        let (windows, taps): (Vec<_>, Vec<_>) = terms.partition(|t| t.0 < c.outer);
        let plain = d.index.divisor == 1 && windows.len() <= 1 && taps.len() <= 1;
        if !plain || windows.iter().chain(&taps).any(|t| t.1 < 1) {
            return None;
        }
        let side = Side {
            extent: d.extent as i64,
            stride: d.stride,
            window: windows.first().copied(),
            tap: taps.first().copied(),
            before: -d.index.offset,
        };
        match (side.window, side.tap) {
            (None, Some((l, 1))) if l == channel && side.before == 0 && side.stride == 1 => {}
            (None, None) if side.extent == 1 && side.before == 0 => {}
            _ => sides.push(side),
        }
    }
    // Along a dimension without a window's elements it is a batch.
    let plain = |s: &Side| s.tap.is_none() && s.before == 0 && s.window.is_some_and(|w| w.1 == 1 && c.space[w.0] as i64 == s.extent);
    let batch = if sides.first().is_some_and(plain) { Some(sides.remove(0)) } else { None };
    if sides.is_empty() || sides.len() > 2 || sides.iter().any(|s| s.before < 0) {
        return None;
    }
    let one = || Side { extent: 1, stride: 0, window: None, tap: None, before: 0 };
    if sides.len() == 1 {
        sides.insert(0, one());
    }
    let batch = batch.unwrap_or_else(one);
    let covered: Vec<usize> = [batch.window, sides[0].window, sides[1].window].into_iter().flatten().map(|w| w.0).collect();
    let taps: Vec<usize> = sides.iter().filter_map(|s| s.tap).map(|t| t.0).chain([channel]).collect();
    let live = |l: &usize| c.space[*l] > 1;
    if roles.m.iter().filter(|l| live(l)).any(|l| !covered.contains(l)) || roles.k().iter().filter(|l| live(l)).any(|l| !taps.contains(l)) {
        return None;
    }
    let (w, start) = second(c, roles, layout);
    let extent = |l: Option<(usize, i64)>| l.map_or(1, |l| c.space[l.0] as i64);
    let of = |f: &dyn Fn(usize) -> Option<i64>, l: Option<(usize, i64)>| l.map_or(Some(0), |l| f(l.0));
    let out = |l: usize| c.out.view.strides.get(l).copied();
    let after = sides.iter().map(|s| {
        let (p, r) = (extent(s.window), extent(s.tap));
        let (step, gap) = (s.window.map_or(1, |w| w.1), s.tap.map_or(1, |t| t.1));
        let window = gap * (r - 1) + 1;
        let after = ((p - 1) * step + window - s.extent - s.before).max(0);
        ((s.extent + s.before + after - window) / step + 1 == p).then_some(after)
    });
    let after: Vec<i64> = after.collect::<Option<_>>()?;
    let (h, v) = (&sides[0], &sides[1]);
    let n = (roles.n[0], 1);
    let extents = [batch.extent, c.space[channel] as i64, h.extent, v.extent, extent(Some(n))];
    let windows = [extent(h.tap), extent(v.tap), extent(h.window), extent(v.window)];
    let base = c.a.dims.iter().fold(c.a.offset as i64, |at, _| at);
    let form = Convolution {
        extents: extents.into_iter().chain(windows).collect(),
        x: Strided { offset: base, strides: vec![batch.stride, 1, h.stride, v.stride] },
        w: Strided { offset: start, strides: vec![of(&w, Some(n))?, of(&w, Some((channel, 1)))?, of(&w, h.tap)?, of(&w, v.tap)?] },
        out: Strided {
            offset: c.out.view.offset as i64,
            strides: [batch.window, Some(n), h.window, v.window].map(|l| of(&out, l)).into_iter().collect::<Option<_>>()?,
        },
        before: sides.iter().map(|s| s.before).collect(),
        after,
        strides: sides.iter().map(|s| s.window.map_or(1, |w| w.1)).collect(),
        dilations: sides.iter().map(|s| s.tap.map_or(1, |t| t.1)).collect(),
    };
    let loops = [batch.window, Some(n), h.window, v.window].map(|l| l.map(|l| l.0).into_iter().collect());
    Some((Form::Convolution(form), loops.to_vec()))
}

/// The epilogue as stages, found from its end.
fn epilogue(c: &Contraction, loops: &Loops) -> Option<Vec<Stage>> {
    let f = &c.epilogue;
    let [last] = f.outputs[..] else { return None };
    let mut at = last;
    if let Expr::Cast(x) = f.insts[usize::from(at)].expr
        && f.dtype(x) == DType::F32
    {
        at = x;
    }
    let mut stages = vec![];
    loop {
        if f.dtype(at) != DType::F32 {
            return None;
        }
        let constant = |x: u16, value: f64| matches!(f.insts[usize::from(x)].expr, Expr::Const(bits) if f64::from_bits(bits) == value);
        match f.insts[usize::from(at)].expr {
            Expr::Input(0) => break,
            Expr::Unary(u, x) => {
                stages.push(Stage::Activate(activation(u)?));
                at = x;
            }
            Expr::Binary(Binary::Max, x, zero) if constant(zero, 0.0) => {
                stages.push(Stage::Activate(Activation::Relu));
                at = x;
            }
            Expr::Binary(Binary::Min, x, six) if constant(six, 6.0) => {
                let Expr::Binary(Binary::Max, y, zero) = f.insts[usize::from(x)].expr else { return None };
                if !constant(zero, 0.0) {
                    return None;
                }
                stages.push(Stage::Activate(Activation::Relu6));
                at = y;
            }
            Expr::Binary(Binary::Add, x, y) => {
                let (sum, other) = if reads(f, x, 0) { (x, y) } else { (y, x) };
                let mut leaves = vec![other];
                while let Some(leaf) = leaves.pop() {
                    match f.insts[usize::from(leaf)].expr {
                        Expr::Binary(Binary::Add, x, y) => leaves.extend([x, y]),
                        Expr::Cast(x) => leaves.push(x),
                        Expr::Input(i) if i > 0 => stages.push(Stage::Add(addend(c, loops, i)?)),
                        _ => return None,
                    }
                }
                at = sum;
            }
            _ => return None,
        }
    }
    stages.reverse();
    Some(stages)
}

/// Whether a value depends on an input.
fn reads(f: &ScalarFn, value: u16, input: u16) -> bool {
    let expr = &f.insts[usize::from(value)].expr;
    matches!(expr, Expr::Input(i) if *i == input) || expr.operands().iter().any(|&x| reads(f, x, input))
}

fn activation(u: Unary) -> Option<Activation> {
    Some(match u {
        Unary::Gelu => Activation::Gelu,
        Unary::GeluTanh => Activation::GeluTanh,
        Unary::Silu => Activation::Silu,
        Unary::Sigmoid => Activation::Sigmoid,
        Unary::Tanh => Activation::Tanh,
        _ => return None,
    })
}

fn addend(c: &Contraction, loops: &Loops, input: u16) -> Option<Addend> {
    let extra = c.extras.get(usize::from(input) - 1)?;
    let stride = |l: usize| extra.view.strides.get(l).copied();
    let strides = loops.iter().map(|group| fused(stride, group, &c.space)).collect::<Option<_>>()?;
    if !matches!(extra.dtype, DType::F32 | DType::F16 | DType::BF16) {
        return None;
    }
    Some(Addend { arg: 1 + u32::from(input), dtype: extra.dtype, at: Strided { offset: extra.view.offset as i64, strides } })
}
