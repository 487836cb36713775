//! Contractions without reuse between threads, as depthwise convolutions are: every thread sums its own elements.

use super::affine::{Linear, Near, Term, small};
use super::spot::{Spot, before};
use super::{Unsupported, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Kernel, Op, Ty};
use crate::schedule::{Schedule, schedule};
use std::collections::{BTreeMap, BTreeSet};
use wpk_plan::DType;
use wpk_plan::problem::{Contraction, Operand};

const STEPS: [u32; 4] = [1, 2, 4, 7];
const ROWS: [u32; 3] = [1, 2, 4];

schedule! {
    /// How a contraction is computed thread by thread.
    Direct(Contraction => Facts) = "direct" {
        /// Threads of a block.
        threads: [64, 128, 256],
        /// Neighbouring results of a thread.
        vector: [1, 2, 4, 8],
        /// Such groups of a thread, along the next loop; what they read of the factors alike is read once.
        steps: STEPS,
        /// Such lines of groups, along the loop before that.
        rows: ROWS,
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
    /// The extents of the two loops before the innermost, and reads of a thread for each of [`ROWS`] and [`STEPS`].
    extents: [usize; 2],
    reads: [[u64; STEPS.len()]; ROWS.len()],
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
            extents: before(c).map(|l| l.map_or(1, |l| c.space[l])),
            reads: ROWS.map(|rows| STEPS.map(|steps| reads(c, [rows, steps]))),
            size: c.dtype.bytes(),
            bytes,
            arch: *arch,
        }
    }
}

impl Direct {
    fn groups(&self) -> u32 {
        self.rows * self.steps
    }

    fn fits(&self, f: &Facts) -> bool {
        f.small
            && f.points < 1 << 31
            && f.depth < 1 << 31
            && f.together.is_multiple_of(self.vector as usize)
            && f.extents[0].is_multiple_of(self.rows as usize)
            && f.extents[1].is_multiple_of(self.steps as usize)
            && (self.groups() == 1 || f.depth <= UNROLLED as u64 && self.groups() * self.vector <= 32)
            && self.vector as usize * f.size <= 16
    }

    /// What a multiprocessor issues, what its first cache reads, what a thread waits for and what comes from memory, which hide most of each other;
    /// fitted to measured landscapes.
    fn estimate(&self, f: &Facts) -> f64 {
        const CLOCK: f64 = 1.7;
        // Of the norm that joins them: 1 where nothing hides anything.
        const HIDDEN: f64 = 1.29;
        let (vector, groups) = (f64::from(self.vector), f64::from(self.groups()));
        let at = |all: &[u32], n: u32| all.iter().position(|&x| x == n).unwrap_or(0);
        let reads = f.reads[at(&ROWS, self.rows)][at(&STEPS, self.steps)] as f64;
        let blocks = (f.points as f64 / (vector * groups) / f64::from(self.threads) / f64::from(f.arch.sms)).ceil();
        let warps = blocks * f64::from(self.threads) / 32.0;
        let converted = if f.size < 4 { reads * vector } else { 0.0 };
        let lines = reads * (vector * f.size as f64 / 4.0).max(1.0);
        let issued = warps / 4.0 * (1.22 * converted + 1.27 * f.depth as f64 * vector * groups) / CLOCK;
        let read = warps * 1.21 * lines / CLOCK;
        let latency = 1175.0 + 4.2 * lines;
        let traffic = 0.51 * f.bytes / f.arch.bandwidth;
        let together: f64 = [issued, read, latency, traffic].iter().map(|t| t.powf(HIDDEN)).sum();
        14.6 * blocks + together.powf(HIDDEN.recip())
    }
}

/// Reads of both factors for so many rows and steps, what is alike counted once.
fn reads(c: &Contraction, counts: [u32; 2]) -> u64 {
    let depth = c.inner().iter().product::<usize>();
    if depth > UNROLLED {
        return 2 * depth as u64;
    }
    let of = |access| {
        let linear = Linear::access(access, &c.space);
        let all = (0..depth).flat_map(|tap| groups(counts).map(move |group| (tap, group)));
        all.map(|(tap, group)| place(c, &linear, tap, group)).collect::<BTreeSet<_>>().len() as u64
    };
    of(&c.a) + of(&c.b)
}

/// Row and step of every group of so many rows and steps.
fn groups([rows, steps]: [u32; 2]) -> impl Iterator<Item = [i64; 2]> + Clone {
    (0..i64::from(rows)).flat_map(move |row| (0..i64::from(steps)).map(move |step| [row, step]))
}

/// Where a tap of a group lies behind the first group's start: offset and checks.
fn place(c: &Contraction, linear: &Linear, tap: usize, group: [i64; 2]) -> Vec<i64> {
    let mut at = vec![0; c.space.len()];
    let mut rest = tap;
    for l in (c.outer..c.space.len()).rev() {
        (rest, at[l]) = (rest / c.space[l], (rest % c.space[l]) as i64);
    }
    for (l, n) in before(c).into_iter().zip(group) {
        if let Some(l) = l {
            at[l] = n;
        }
    }
    let sum = |weights: &[i64]| weights.iter().zip(&at).fold(0i64, |sum, (w, x)| sum.wrapping_add(w.wrapping_mul(*x)));
    std::iter::once(sum(&linear.per_loop)).chain(linear.checks.iter().map(|k| sum(&k.per_loop))).collect()
}

/// Bytes that an instruction adds to an address, in both directions.
const FARTHEST: i64 = 1 << 23;
/// Taps up to which the sum is written out.
const UNROLLED: usize = 32;

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn direct(c: &Contraction, s: &Direct, arch: &Arch) -> Result<Kernel, Unsupported> {
    if !s.legal(&Facts::of(c, arch)) || scalar::register(c.dtype) != scalar::register(c.sum) || c.given != c.dtype {
        return Err(Unsupported(format!("{s} does not fit a contraction of {} over {:?}", c.dtype, c.space)));
    }
    let outer: Vec<usize> = (0..c.outer).collect();
    let inner: Vec<usize> = (c.outer..c.space.len()).collect();
    let (n, counts) = (s.vector as usize, [s.rows, s.steps]);
    let points: usize = c.space[..c.outer].iter().product();
    let depth: usize = c.inner().iter().product();
    let threads = points / (n * s.groups() as usize);
    let mut k = Writer::for_arch(arch);
    k.fast = c.out.dtype.bytes() == 2;
    let thread = k.thread(s.threads);
    let mut result = Ok(());
    let mut body = |k: &mut Writer| {
        let spot = Spot::of(k, c, thread, (n, counts));
        let ty = scalar::register(c.sum);
        let zero = zero(k, ty);
        let sums: Vec<Val> = (0..n * s.groups() as usize).map(|_| k.variable(zero)).collect();
        let factors = [(0, &c.a), (1, &c.b)].map(|(param, access)| {
            let linear = Linear::access(access, &c.space);
            let start = linear.start(k);
            let moved = spot.term(k, &linear);
            let start = start.plus(k, &moved);
            (param, linear, start)
        });
        let mut known: [BTreeMap<Vec<i64>, Vec<Val>>; 2] = Default::default();
        let mut beside = [0, 1].map(|i: usize| Beside::new(k, c, &factors[i], (&outer, n)));
        let add = |k: &mut Writer, group: usize, lanes: &[Vec<Val>]| {
            for (j, &sum) in sums[group * n..(group + 1) * n].iter().enumerate() {
                if matches!(ty, Ty::F32 | Ty::F64) {
                    k.update(sum, Op::Fma, &[lanes[0][j], lanes[1][j], sum]);
                } else {
                    let product = k.mul(lanes[0][j], lanes[1][j]);
                    k.update(sum, Op::Add, &[sum, product]);
                }
            }
        };
        if depth <= UNROLLED {
            for tap in 0..depth {
                for (i, group) in groups(counts).enumerate() {
                    let mut lanes = vec![];
                    for (((param, linear, start), known), beside) in factors.iter().zip(&mut known).zip(&mut beside) {
                        let key = place(c, linear, tap, group);
                        let found = known.get(&key).cloned().or_else(|| Some(beside.as_mut()?.read(k, c.dtype, &key)));
                        lanes.push(found.unwrap_or_else(|| {
                            let moved = if s.groups() == 1 {
                                let at = k.int(tap as i64, Ty::U32);
                                linear.term(k, at, &inner)
                            } else {
                                let number = |&x: &i64| k.int(x, Ty::S32);
                                Term { offset: number(&key[0]), checks: key[1..].iter().map(number).collect() }
                            };
                            let term = start.plus(k, &moved);
                            load(k, c, (*param, linear, &term), (&spot, n))
                        }));
                        known.entry(key).or_insert_with(|| lanes[lanes.len() - 1].clone());
                    }
                    add(k, i, &lanes);
                }
            }
        } else {
            k.repeat(depth as u32, |k, at| {
                let mut lanes = vec![];
                for (param, linear, start) in &factors {
                    let tap = linear.term(k, at, &inner);
                    let term = start.plus(k, &tap);
                    lanes.push(load(k, c, (*param, linear, &term), (&spot, n)));
                }
                add(k, 0, &lanes);
            });
        }
        result = store(k, c, (&spot, n), counts, &sums);
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

/// A factor whose elements at neighbouring points lie together, or are one, as it is read constant ways behind a thread's start.
struct Beside<'a> {
    near: Near<'a>,
    address: Val,
    /// Points, and elements that they read.
    points: usize,
    elements: usize,
}

impl<'a> Beside<'a> {
    fn new(
        k: &mut Writer,
        c: &Contraction,
        (param, linear, start): &'a (u32, Linear, Term),
        (outer, n): (&[usize], usize),
    ) -> Option<Self> {
        let last: Vec<usize> = outer.iter().rev().find(|&&l| c.space[l] > 1).copied().into_iter().collect();
        let elements = match n > 1 && linear.together(outer, n) {
            true => n,
            false if n == 1 || !linear.uses(&last) => 1,
            false => return None,
        };
        let near = Near::new(linear, start)?;
        Some(Self { near, address: k.element(*param, start.offset, c.dtype.bytes()), points: n, elements })
    }

    /// What lies where offset and checks are moved so.
    fn read(&mut self, k: &mut Writer, dtype: DType, moved: &[i64]) -> Vec<Val> {
        let (address, bytes) = behind(k, self.address, moved[0] * dtype.bytes() as i64);
        let inside = self.near.inside(k, &moved[1..]);
        let words = k.loaded_where(inside, |k| scalar::load_words(k, dtype, address, bytes, self.elements));
        let values = scalar::widened(k, dtype, &words, self.elements);
        (0..self.points).map(|i| values[i % self.elements]).collect()
    }
}

/// An address so many bytes further, as far as no instruction says them.
fn behind(k: &mut Writer, address: Val, bytes: i64) -> (Val, i32) {
    if bytes.abs() < FARTHEST { (address, bytes as i32) } else { (k.plus(address, bytes), 0) }
}

fn zero(k: &Writer, ty: Ty) -> Val {
    if matches!(ty, Ty::F32 | Ty::F64) { k.float(0.0, ty) } else { k.int(0, ty) }
}

/// A factor's elements at `n` neighbouring points, zero outside.
fn load(k: &mut Writer, c: &Contraction, (param, linear, term): (u32, &Linear, &Term), (spot, n): (&Spot, usize)) -> Vec<Val> {
    let outer: Vec<usize> = (0..c.outer).collect();
    let last: Vec<usize> = outer.iter().rev().find(|&&l| c.space[l] > 1).copied().into_iter().collect();
    let wide = n > 1 && linear.together(&outer, n);
    let same = n > 1 && !linear.uses(&last);
    let read = |k: &mut Writer, term: &Term, count: usize| {
        let (inside, offset) = linear.resolve(k, term);
        let address = k.element(param, offset, c.dtype.bytes());
        let words = k.loaded_where(inside, |k| scalar::load_words(k, c.dtype, address, 0, count));
        scalar::widened(k, c.dtype, &words, count)
    };
    if wide {
        return read(k, term, n);
    }
    if same || n == 1 {
        return vec![read(k, term, 1)[0]; n];
    }
    let base = spot.term(k, linear);
    (0..n)
        .map(|j| {
            let here = spot.moved(k, [0, 0], j).term(k, linear);
            // The term holds the first point: the difference moves it.
            let moved = Term {
                offset: k.sub(here.offset, base.offset),
                checks: here.checks.iter().zip(&base.checks).map(|(&a, &b)| k.sub(a, b)).collect(),
            };
            let term = term.plus(k, &moved);
            read(k, &term, 1)[0]
        })
        .collect()
}

/// Where an operand of the epilogue has neighbouring points: an address of each, or one where they lie together, and bytes from a row, and a step, to the
/// next.
struct Places {
    dtype: DType,
    addresses: Vec<Val>,
    apart: [i64; 2],
}

impl Places {
    fn of(k: &mut Writer, c: &Contraction, (o, param): (&Operand, u32), (spot, n): (&Spot, usize)) -> Self {
        let linear = Linear::view(&o.view, &c.space);
        let outer: Vec<usize> = (0..c.outer).collect();
        let count = if n > 1 && linear.together(&outer, n) { 1 } else { n };
        let addresses = (0..count).map(|j| {
            let moved = spot.moved(k, [0, 0], j).weighted(k, &c.space, &linear.per_loop);
            let at = k.plus(moved, linear.base);
            k.element(param, at, o.dtype.bytes())
        });
        let addresses = addresses.collect();
        let apart = before(c).map(|l| l.map_or(0, |l| linear.per_loop[l]) * o.dtype.bytes() as i64);
        Self { dtype: o.dtype, addresses, apart }
    }

    /// The addresses of a group.
    fn at(&self, k: &mut Writer, group: [i64; 2]) -> Vec<(Val, i32)> {
        let bytes = group[0] * self.apart[0] + group[1] * self.apart[1];
        self.addresses.iter().map(|&address| behind(k, address, bytes)).collect()
    }

    fn load(&self, k: &mut Writer, group: [i64; 2], n: usize) -> Vec<Val> {
        let at = self.at(k, group);
        let together = n / at.len();
        at.into_iter().flat_map(|(address, offset)| scalar::load_neighbours(k, self.dtype, address, offset, together)).collect()
    }
}

/// The epilogue of all groups of `n` points; everything is read before anything is stored.
fn store(k: &mut Writer, c: &Contraction, (spot, n): (&Spot, usize), counts: [u32; 2], sums: &[Val]) -> Result<(), Unsupported> {
    let mut extras: Vec<Vec<Vec<Val>>> = vec![];
    for (e, param) in c.extras.iter().zip(2..) {
        let places = Places::of(k, c, (e, param), (spot, n));
        let read = groups(if places.apart == [0, 0] { [1, 1] } else { counts });
        extras.push(read.map(|group| places.load(k, group, n)).collect());
    }
    let mut values = vec![];
    for (i, group) in groups(counts).enumerate() {
        for j in 0..n {
            let inputs: Vec<Val> = std::iter::once(sums[i * n + j]).chain(extras.iter().map(|e| e[i % e.len()][j])).collect();
            let mut coordinate = |k: &mut Writer, d: usize| spot.moved(k, group, j).coordinates(k, &c.space)[d];
            values.push(scalar::emit_stored(k, &c.epilogue, &inputs, &mut coordinate)?[0]);
        }
    }
    let out = Places::of(k, c, (&c.out, 2 + c.extras.len() as u32), (spot, n));
    for (group, values) in groups(counts).zip(values.chunks(n)) {
        let at = out.at(k, group);
        for (values, (address, offset)) in values.chunks(n / at.len()).zip(at) {
            scalar::store_neighbours(k, c.out.dtype, address, offset, values);
        }
    }
    Ok(())
}
