//! Reductions over whole dimensions and over sliding windows: the threads of a block share the elements of its results.

use super::affine::{Linear, Term};
use super::{Unsupported, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Kernel, MemTy, Op, Special, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::DType;
use wpk_plan::problem::{Access, Affine, Operand, Reduce, ReduceKind, Window, WindowKind};

/// What both kinds are: results over the first loops, elements over all.
pub struct Folded {
    kind: ReduceKind,
    space: Vec<usize>,
    outer: usize,
    access: Access,
    dtype: DType,
    output: Operand,
    /// Whether a mean counts the elements that exist instead of all.
    count_inside: bool,
}

impl From<&Reduce> for Folded {
    fn from(r: &Reduce) -> Self {
        let shape = &r.input.view.shape;
        let kept: Vec<usize> = (0..shape.len()).collect();
        let reduced: Vec<usize> = kept.iter().copied().filter(|&d| r.axes[d]).collect();
        let space = r.output.view.shape.iter().copied().chain(reduced.iter().map(|&d| shape[d])).collect();
        let index = |d: usize| Affine::of(reduced.iter().position(|&e| e == d).map_or(d, |i| shape.len() + i));
        let access = Access::new(&r.input.view, kept.into_iter().map(index).collect());
        Self { kind: r.kind, space, outer: shape.len(), access, dtype: r.input.dtype, output: r.output.clone(), count_inside: false }
    }
}

impl Folded {
    /// Whether `n` neighbouring results lie together, as do the elements that each of their taps reads.
    fn wide(&self, linear: &Linear, n: usize) -> bool {
        let outer: Vec<usize> = (0..self.outer).collect();
        let to = Linear::view(&self.output.view, &self.space);
        n * self.dtype.bytes() <= 32 && linear.together(&outer, n) && to.together(&outer, n)
    }

    /// The reduction that a pooling window is; `None` where it tells positions, or counts padding up to a bound.
    pub fn window(w: &Window) -> Option<Self> {
        let rank = w.dims.len();
        let out = &w.output.view.shape;
        let beyond = w
            .dims
            .iter()
            .zip(&w.input.view.shape)
            .zip(out)
            .any(|((d, &n), &o)| (o.max(1) - 1) * d.stride + (d.size - 1) * d.dilation >= n + d.pad + d.pad_end);
        if w.indices.is_some() || w.kind == WindowKind::Mean && w.count_pad && beyond {
            return None;
        }
        let kind = match w.kind {
            WindowKind::Max => ReduceKind::Max,
            WindowKind::Mean => ReduceKind::Mean,
            WindowKind::Sum => ReduceKind::Sum,
        };
        let index = |(d, dim): (usize, &wpk_plan::problem::WindowDim)| Affine {
            offset: -(dim.pad as i64),
            terms: vec![(d as u8, dim.stride as i64), ((rank + d) as u8, dim.dilation as i64)],
            divisor: 1,
        };
        Some(Self {
            kind,
            space: out.iter().copied().chain(w.dims.iter().map(|d| d.size)).collect(),
            outer: rank,
            access: Access::new(&w.input.view, w.dims.iter().enumerate().map(index).collect()),
            dtype: w.input.dtype,
            output: w.output.clone(),
            count_inside: !w.count_pad,
        })
    }
}

schedule! {
    /// How a reduction is computed.
    Reduction(Folded => Facts) = "reduction" {
        /// Groups of results of a block.
        results: [1, 8, 16, 32, 64, 128],
        /// Threads that share the elements of a result.
        parts: [1, 2, 4, 8, 16, 32, 128],
        /// Neighbouring results of a group, which are read and written at once.
        vector: [1, 2, 4, 8],
    }
}

/// What a schedule of a reduction depends on.
pub struct Facts {
    points: u64,
    depth: u64,
    small: bool,
    /// Whether neighbouring results read neighbouring elements.
    coalesced: bool,
    /// Most neighbours that can be read and written at once.
    wide: u32,
    /// Bytes of an element, and of all that is read and written.
    size: f64,
    bytes: f64,
    arch: Arch,
}

impl Facts {
    fn of(f: &Folded, arch: &Arch) -> Self {
        let count = |n: &[usize]| n.iter().map(|&n| n as u64).product();
        let linear = Linear::access(&f.access, &f.space);
        let last = (0..f.outer).rev().find(|&l| f.space[l] > 1);
        let small = [&f.access.view(), &f.output.view].iter().all(|v| v.span().is_none_or(|s| s.1 < 1 << 30));
        Self {
            points: count(&f.space[..f.outer]),
            depth: count(&f.space[f.outer..]),
            small,
            coalesced: last.is_some_and(|l| linear.per_loop[l].abs() == 1),
            wide: [8, 4, 2].into_iter().find(|&v| f.wide(&linear, v as usize)).unwrap_or(1),
            size: f.dtype.bytes() as f64,
            bytes: ((f.access.view().len() + f.output.view.len()) * f.dtype.bytes()) as f64,
            arch: *arch,
        }
    }
}

impl Reduction {
    fn fits(&self, f: &Facts) -> bool {
        let threads = self.results * self.parts;
        let neighbours = self.vector == 1 || self.parts == 1 && self.vector <= f.wide;
        neighbours && f.small && f.points < 1 << 31 && f.depth < 1 << 31 && threads.is_multiple_of(32) && (32..=1024).contains(&threads)
    }

    /// What starting blocks and their rounds take beside what comes from memory, in ns, and what a thread waits for; fitted to what searches measured of
    /// poolings (`docs/notes/gpu-kernels.md`).
    fn estimate(&self, f: &Facts) -> f64 {
        let threads = f64::from(self.results * self.parts);
        let blocks = (f.points as f64 / f64::from(self.results * self.vector) / f64::from(f.arch.sms)).ceil();
        let rounds = (f.depth as f64 / f64::from(self.parts)).ceil();
        let (vector, side) = (f64::from(self.vector), if f.coalesced { self.results } else { self.parts });
        // Lanes that do not read neighbours cost a sector each, neighbours of one lane their bytes.
        let sectors = if self.vector > 1 { 1.0 + vector * f.size / 16.0 } else { 32.0 / f64::from(side.min(32)).max(4.0) };
        let issued = blocks * (60.0 + threads / 32.0 * rounds * (0.7 * sectors + 0.8 + 0.35 * vector));
        let moved = f.bytes / f.arch.bandwidth;
        let meeting = if self.parts > 1 { 60.0 + 30.0 * f64::from(self.parts) } else { 0.0 };
        300.0 + (600.0 + 40.0 * rounds + meeting) / 1.7 + issued.max(moved) + 0.5 * issued.min(moved)
    }
}

/// The kernel of a reduction; its parameters are the input and the output.
///
/// # Errors
/// Where the schedule does not fit, or a type is not generated yet.
pub fn reduction(f: &Folded, s: &Reduction, arch: &Arch) -> Result<Kernel, Unsupported> {
    if !s.legal(&Facts::of(f, arch)) || f.dtype == DType::Text || f.output.dtype != f.dtype {
        return Err(Unsupported(format!("{s} does not fit a reduction of {} over {:?}", f.dtype, f.space)));
    }
    let outer: Vec<usize> = (0..f.outer).collect();
    let inner: Vec<usize> = (f.outer..f.space.len()).collect();
    let points: usize = f.space[..f.outer].iter().product();
    let depth: usize = f.space[f.outer..].iter().product();
    let linear = Linear::access(&f.access, &f.space);
    let ty = scalar::register(f.dtype);
    let mut k = Writer::for_arch(arch);
    let block = k.op(Ty::U32, Op::Special(Special::Block), &[]);
    let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
    let (part, own) = if Facts::of(f, arch).coalesced {
        k.div_rem(thread, s.results)
    } else {
        let (own, part) = k.div_rem(thread, s.parts);
        (part, own)
    };
    let first = k.scaled(block, i64::from(s.results));
    let group = k.add(first, own);
    let (v, point) = (s.vector as usize, k.scaled(group, i64::from(s.vector)));
    let exists = (!points.is_multiple_of(s.results as usize * v)).then(|| k.below(point, points as i64));
    let start = linear.start(&mut k);
    let moved = linear.term(&mut k, point, &outer);
    let start = start.plus(&mut k, &moved);
    let (zero, one) = (constant(&k, f.dtype, 0), constant(&k, f.dtype, 1));
    let neutral = match f.kind {
        ReduceKind::Max if f.dtype.is_float() => k.float(f64::NEG_INFINITY, ty),
        ReduceKind::Min if f.dtype.is_float() => k.float(f64::INFINITY, ty),
        ReduceKind::Max => k.int(f.dtype.int_range().0, ty),
        ReduceKind::Min => k.int(f.dtype.int_range().1, ty),
        ReduceKind::Prod => one,
        _ => zero,
    };
    let totals: Vec<Val> = (0..v).map(|_| k.variable(neutral)).collect();
    let count = k.variable(zero);
    let counts = f.kind == ReduceKind::Mean && f.count_inside && !linear.checks.is_empty();
    let step = |k: &mut Writer, round: Val| {
        let at = k.scaled(round, i64::from(s.parts));
        let at = k.add(at, part);
        let inside = (!depth.is_multiple_of(s.parts as usize)).then(|| k.below(at, depth as i64));
        let tap = linear.term(k, at, &inner);
        let term: Term = start.plus(k, &tap);
        let (valid, offset) = linear.resolve(k, &term);
        let valid = k.both(valid, inside);
        let valid = k.both(valid, exists);
        let address = k.element(0, offset, f.dtype.bytes());
        let words = k.loaded_where(valid, |k| scalar::load_words(k, f.dtype, address, 0, v));
        for (&total, x) in totals.iter().zip(scalar::widened(k, f.dtype, &words, v)) {
            let x = match f.kind {
                ReduceKind::SumAbs if matches!(ty, Ty::U32 | Ty::U64) => x,
                ReduceKind::SumAbs => k.op(ty, Op::Abs, &[x]),
                ReduceKind::SumSquare => k.op(ty, Op::Mul, &[x, x]),
                _ => x,
            };
            let x = valid.filter(|_| neutral != zero).map_or(x, |p| k.select(p, x, neutral));
            let next = combine(k, f.kind, total, x);
            k.assign(total, next);
        }
        if counts {
            let more = valid.map_or(one, |p| k.select(p, one, zero));
            let next = k.add(count, more);
            k.assign(count, next);
        }
    };
    let rounds = depth.div_ceil(s.parts as usize) as u32;
    if rounds <= 64 {
        (0..rounds).for_each(|i| {
            let round = k.int(i64::from(i), Ty::U32);
            step(&mut k, round);
        });
    } else {
        k.repeat(rounds, step);
    }
    let (size, mem) = match ty {
        Ty::F64 => (8, MemTy::F64),
        Ty::S64 | Ty::U64 => (8, MemTy::B64),
        Ty::F32 => (4, MemTy::F32),
        _ => (4, MemTy::B32),
    };
    let finish = |k: &mut Writer| {
        let value = |k: &mut Writer, total: Val| match f.kind {
            ReduceKind::Mean if counts => k.op(ty, Op::Div, &[total, count]),
            ReduceKind::Mean => {
                let n = constant(k, f.dtype, depth as i64);
                k.op(ty, Op::Div, &[total, n])
            }
            _ => total,
        };
        let values: Vec<Val> = totals.iter().map(|&total| value(k, total)).collect();
        let to = Linear::view(&f.output.view, &f.space);
        let start = to.start(k);
        let moved = to.term(k, point, &outer);
        let at = k.add(start.offset, moved.offset);
        let address = k.element(1, at, f.output.dtype.bytes());
        scalar::store_neighbours(k, f.output.dtype, address, 0, &values);
    };
    let finish = |k: &mut Writer| k.when_some(exists, finish);
    if s.parts == 1 {
        finish(&mut k);
    } else {
        // Partial results by part, then by result; the first part adds them in order.
        let total = totals[0];
        let shared = k.shared(s.results * s.parts * size * 2);
        let line = k.scaled(part, i64::from(s.results));
        let line = k.add(line, own);
        let bytes = k.scaled(line, i64::from(size));
        let to = k.add(shared, bytes);
        let counted = (s.results * s.parts * size) as i32;
        k.store(mem, to, &[total]);
        if counts {
            k.store_at(mem, to, counted, &[count]);
        }
        k.barrier();
        let none = k.int(0, Ty::U32);
        let leads = k.compare(Cmp::Eq, part, none);
        k.when(leads, |k| {
            for other in 1..s.parts {
                let offset = (other * s.results * size) as i32;
                let x = k.load_at(mem, ty, to, offset, 1)[0];
                let next = combine(k, f.kind, total, x);
                k.assign(total, next);
                if counts {
                    let x = k.load_at(mem, ty, to, offset + counted, 1)[0];
                    let next = k.add(count, x);
                    k.assign(count, next);
                }
            }
            finish(k);
        });
    }
    Ok(k.finish("reduction", 2, s.results * s.parts, (points as u32).div_ceil(s.results * s.vector)))
}

/// A number of an element type.
fn constant(k: &Writer, dtype: DType, n: i64) -> Val {
    let ty = scalar::register(dtype);
    if dtype.is_float() { k.float(n as f64, ty) } else { k.int(n, ty) }
}

fn combine(k: &mut Writer, kind: ReduceKind, total: Val, x: Val) -> Val {
    match kind {
        ReduceKind::Max | ReduceKind::Min => k.extreme(kind == ReduceKind::Max, total, x),
        ReduceKind::Prod => k.mul(total, x),
        _ => k.add(total, x),
    }
}
