//! Contractions without reuse between threads, as depthwise convolutions are: every thread sums its own elements.

use super::affine::{Linear, small, split, weighted};
use super::{Unsupported, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Kernel, Op, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::problem::Contraction;

schedule! {
    /// How a contraction is computed thread by thread.
    Direct(Contraction => Facts) = "direct" {
        /// Threads of a block.
        threads: [64, 128, 256],
        /// Neighbouring results of a thread.
        vector: [1, 2, 4, 8],
    }
}

/// What a schedule of a contraction depends on.
pub struct Facts {
    points: u64,
    depth: u64,
    /// Whether all offsets fit registers of 32 bits.
    small: bool,
    /// Neighbouring results at most.
    together: usize,
    /// Bytes of an element.
    size: usize,
    bytes: f64,
    arch: Arch,
}

impl Facts {
    fn of(c: &Contraction, arch: &Arch) -> Self {
        let views = [c.a.view(), c.b.view(), c.out.view.clone()];
        let count = |n: &[usize]| n.iter().map(|&n| n as u64).product();
        let outer: Vec<usize> = (0..c.outer).collect();
        let together = |n: usize| Linear::view(&c.out.view, &c.space).together(&outer, n);
        let bytes = views.iter().map(|v| v.len() * c.dtype.bytes()).sum::<usize>() as f64;
        Self {
            points: count(&c.space[..c.outer]),
            depth: count(c.inner()),
            small: small(c),
            together: [8, 4, 2].into_iter().find(|&n| together(n)).unwrap_or(1),
            size: c.dtype.bytes(),
            bytes,
            arch: *arch,
        }
    }
}

impl Direct {
    fn fits(&self, f: &Facts) -> bool {
        f.small
            && f.points < 1 << 31
            && f.depth < 1 << 31
            && f.together.is_multiple_of(self.vector as usize)
            && self.vector as usize * f.size <= 16
    }

    /// The larger of traffic and of the loads that the threads of a multiprocessor make one after another.
    fn estimate(&self, f: &Facts) -> f64 {
        let threads = f.points as f64 / f64::from(self.vector);
        let per_sm = (threads / f64::from(self.threads) / f64::from(f.arch.sms)).ceil() * f64::from(self.threads);
        let loads = per_sm * f.depth as f64 * (2.0 + 0.25 * f64::from(self.vector)) / 32.0;
        let latency = 700.0 + 30.0 * f.depth as f64 + f64::from(self.threads) / 10.0;
        1000.0 + (loads.max(latency) / 1.7).max(f.bytes / f.arch.bandwidth)
    }
}

/// Taps up to which the sum is written out.
const UNROLLED: usize = 32;

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn direct(c: &Contraction, s: &Direct, arch: &Arch) -> Result<Kernel, Unsupported> {
    if !s.legal(&Facts::of(c, arch)) || scalar::register(c.dtype) != scalar::register(c.sum) {
        return Err(Unsupported(format!("{s} does not fit a contraction of {} over {:?}", c.dtype, c.space)));
    }
    let outer: Vec<usize> = (0..c.outer).collect();
    let inner: Vec<usize> = (c.outer..c.space.len()).collect();
    let n = s.vector as usize;
    let points: usize = c.space[..c.outer].iter().product();
    let depth: usize = c.inner().iter().product();
    let threads = points / n;
    let mut k = Writer::for_arch(arch);
    k.fast = c.out.dtype.bytes() == 2;
    let thread = k.thread(s.threads);
    let mut result = Ok(());
    let mut body = |k: &mut Writer| {
        let point = k.scaled(thread, n as i64);
        let ty = scalar::register(c.sum);
        let zero = zero(k, ty);
        let sums: Vec<Val> = (0..n).map(|_| k.variable(zero)).collect();
        let factors = [(0, &c.a), (1, &c.b)].map(|(param, access)| {
            let linear = Linear::access(access, &c.space);
            let start = linear.start(k);
            let moved = linear.term(k, point, &outer);
            let start = start.plus(k, &moved);
            (param, linear, start)
        });
        let step = |k: &mut Writer, at: Val| {
            let mut lanes = vec![];
            for (param, linear, start) in &factors {
                let tap = linear.term(k, at, &inner);
                let term = start.plus(k, &tap);
                lanes.push(load(k, c, *param, linear, &term, &outer, (point, n)));
            }
            for (j, &sum) in sums.iter().enumerate() {
                if matches!(ty, Ty::F32 | Ty::F64) {
                    k.update(sum, Op::Fma, &[lanes[0][j], lanes[1][j], sum]);
                } else {
                    let product = k.mul(lanes[0][j], lanes[1][j]);
                    k.update(sum, Op::Add, &[sum, product]);
                }
            }
        };
        if depth <= UNROLLED {
            (0..depth).for_each(|i| {
                let at = k.int(i as i64, Ty::U32);
                step(k, at);
            });
        } else {
            k.repeat(depth as u32, step);
        }
        result = store(k, c, &outer, (point, n), &sums);
    };
    if threads.is_multiple_of(s.threads as usize) {
        body(&mut k);
    } else {
        let inside = k.below(thread, threads as i64);
        k.when(inside, body);
    }
    result?;
    Ok(k.finish("direct", 3 + c.extras.len() as u32, s.threads, (threads as u32).div_ceil(s.threads)))
}

fn zero(k: &Writer, ty: Ty) -> Val {
    if matches!(ty, Ty::F32 | Ty::F64) { k.float(0.0, ty) } else { k.int(0, ty) }
}

/// A factor's elements at `n` neighbouring points, zero outside.
fn load(
    k: &mut Writer,
    c: &Contraction,
    param: u32,
    linear: &Linear,
    term: &super::affine::Term,
    outer: &[usize],
    (point, n): (Val, usize),
) -> Vec<Val> {
    let ty = scalar::register(c.dtype);
    let size = c.dtype.bytes();
    let last: Vec<usize> = outer.iter().rev().find(|&&l| c.space[l] > 1).copied().into_iter().collect();
    let wide = n > 1 && linear.together(outer, n);
    let same = n > 1 && !linear.uses(&last);
    let zero = zero(k, ty);
    let read = |k: &mut Writer, term: &super::affine::Term, count: usize| {
        let values: Vec<Val> = (0..count).map(|_| k.variable(zero)).collect();
        let (inside, offset) = linear.resolve(k, term);
        let fetch = |k: &mut Writer| {
            let address = k.element(param, offset, size);
            for (&v, x) in values.iter().zip(scalar::load_neighbours(k, c.dtype, address, 0, count)) {
                k.assign(v, x);
            }
        };
        match inside {
            Some(p) => k.when(p, fetch),
            None => fetch(k),
        }
        values
    };
    if wide {
        return read(k, term, n);
    }
    if same || n == 1 {
        return vec![read(k, term, 1)[0]; n];
    }
    let base = linear.term(k, point, outer);
    (0..n)
        .map(|j| {
            let at = k.plus(point, j as i64);
            let here = linear.term(k, at, outer);
            // The term holds the first point: the difference moves it.
            let moved = super::affine::Term {
                offset: k.sub(here.offset, base.offset),
                checks: here.checks.iter().zip(&base.checks).map(|(&a, &b)| k.sub(a, b)).collect(),
            };
            let term = term.plus(k, &moved);
            read(k, &term, 1)[0]
        })
        .collect()
}

fn store(k: &mut Writer, c: &Contraction, outer: &[usize], (point, n): (Val, usize), sums: &[Val]) -> Result<(), Unsupported> {
    let operand = |k: &mut Writer, o: &wpk_plan::problem::Operand, param: u32, j: usize| {
        let linear = Linear::view(&o.view, &c.space);
        let at = k.plus(point, j as i64);
        let moved = weighted(k, at, outer, &c.space, &linear.per_loop);
        let at = k.plus(moved, linear.base);
        let wide = n > 1 && linear.together(outer, n);
        (k.element(param, at, o.dtype.bytes()), wide)
    };
    let mut extras: Vec<Vec<Val>> = vec![];
    for (i, e) in c.extras.iter().enumerate() {
        let (address, wide) = operand(k, e, 2 + i as u32, 0);
        let loaded: Vec<Val> = if wide {
            scalar::load_neighbours(k, e.dtype, address, 0, n)
        } else {
            (0..n)
                .map(|j| {
                    let (address, _) = operand(k, e, 2 + i as u32, j);
                    scalar::load_neighbours(k, e.dtype, address, 0, 1)[0]
                })
                .collect()
        };
        extras.push(loaded);
    }
    let mut values = vec![];
    for j in 0..n {
        let mut inputs = vec![sums[j]];
        inputs.extend(extras.iter().map(|e| e[j]));
        let mut coordinate = |k: &mut Writer, d: usize| {
            let mut coordinates = vec![k.int(0, Ty::U32); c.space.len()];
            let at = k.plus(point, j as i64);
            split(k, at, outer, &c.space, &mut coordinates);
            coordinates[d]
        };
        values.push(scalar::emit_stored(k, &c.epilogue, &inputs, &mut coordinate)?[0]);
    }
    let param = 2 + c.extras.len() as u32;
    let (address, wide) = operand(k, &c.out, param, 0);
    if wide {
        scalar::store_neighbours(k, c.out.dtype, address, 0, &values);
        return Ok(());
    }
    for (j, &value) in values.iter().enumerate() {
        let (address, _) = operand(k, &c.out, param, j);
        scalar::store_neighbours(k, c.out.dtype, address, 0, &[value]);
    }
    Ok(())
}
