//! Softmax and normalization: a block keeps a row in registers and reduces it by shuffles and one exchange in shared memory.

use super::affine::Linear;
use super::{Unsupported, double, math, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Kernel, MemTy, Op, Special, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::problem::{Family, NormKind, Normalize, Operand, Softmax};

/// The functions of rows.
pub enum RowProblem {
    /// Exponentials over their sum.
    Softmax(Softmax),
    /// Statistics, scale and bias.
    Normalize(Box<Normalize>),
}

impl RowProblem {
    /// Every tensor that is read or written.
    fn operands(&self) -> Vec<Operand> {
        match self {
            Self::Softmax(p) => vec![p.input.clone(), p.output.clone()],
            Self::Normalize(p) => p.inputs().into_iter().chain(p.outputs()).collect(),
        }
    }

    fn input(&self) -> &Operand {
        match self {
            Self::Softmax(p) => &p.input,
            Self::Normalize(p) => &p.input,
        }
    }
}

schedule! {
    /// How rows are computed.
    Rows(RowProblem => Facts) = "rows" {
        /// Threads of a block, which takes one row.
        threads: [32, 64, 128, 256, 512, 1024],
        /// Neighbouring elements of a thread.
        vector: [1, 2, 4, 8],
    }
}

/// What a schedule of rows depends on.
pub struct Facts {
    pub(super) rows: usize,
    pub(super) n: usize,
    pub(super) small: bool,
    /// Neighbours that every operand has together, at most.
    pub(super) together: u32,
    pub(super) size: usize,
    pub(super) arch: Arch,
}

impl Facts {
    pub(super) fn of(p: &RowProblem, arch: &Arch) -> Self {
        let shape = &p.input().view.shape;
        let n = shape.last().copied().unwrap_or(0);
        let rows = shape[..shape.len().saturating_sub(1)].iter().product();
        let small = p.input().view.span().is_some_and(|s| s.1 < 1 << 30) && n > 0 && rows > 0 && rows < 1 << 31;
        let together = |v: &u32| {
            let apart = |o: &Operand| {
                let linear = Linear::view(&o.view, &o.view.shape);
                linear.uses(&[shape.len() - 1]) && !linear.together(&[shape.len() - 1], *v as usize)
            };
            n.is_multiple_of(*v as usize) && !p.operands().iter().any(apart)
        };
        let together = [8, 4, 2].into_iter().find(together).unwrap_or(1);
        Self { rows, n, small, together, size: p.input().dtype.bytes(), arch: *arch }
    }
}

/// Elements of a thread at most: they stay in registers.
pub(super) const HELD: usize = 32;

impl Rows {
    fn fits(&self, f: &Facts) -> bool {
        f.small
            && f.together.is_multiple_of(self.vector)
            && self.vector as usize * f.size <= 16
            && self.rounds(f.n) * self.vector as usize <= HELD
    }

    /// Groups of neighbours that each thread takes.
    fn rounds(&self, n: usize) -> usize {
        n.div_ceil((self.threads * self.vector) as usize)
    }

    fn estimate(&self, f: &Facts) -> f64 {
        let rounds = self.rounds(f.n) as f64;
        let held = rounds * f64::from(self.vector);
        let resident = f64::from(f.arch.sms * f.arch.resident(self.threads, 40 + held as u32, 512));
        let waves = (f.rows as f64 / resident).ceil();
        let exchange = if self.threads == 32 { 0.0 } else { 150.0 + f64::from(self.threads) };
        let traffic = 2.0 * (f.rows * f.n * f.size) as f64 / f.arch.bandwidth;
        1000.0 + traffic.max(waves * (900.0 + 60.0 * rounds + 4.0 * held + exchange) / 1.7) + 0.3 * traffic / f64::from(self.vector)
    }
}

/// The kernel of rows; its parameters are the problem's operands.
///
/// # Errors
/// Where the schedule does not fit, or a type is not generated yet.
pub fn rows(p: &RowProblem, s: &Rows, arch: &Arch) -> Result<Kernel, Unsupported> {
    generate(p, s, (s.threads, s.vector), arch, (softmax, normalize))
}

/// A function of a block's rows; how many operands it takes.
type Function<P> = fn(&mut Writer, &Block, &P) -> u32;

/// The kernel of a family of rows, whose blocks have so many threads with so many neighbours each.
pub(super) fn generate<S: Schedule<Problem = RowProblem, Facts = Facts>>(
    p: &RowProblem,
    s: &S,
    (threads, vector): (u32, u32),
    arch: &Arch,
    (softmax, normalize): (Function<Softmax>, Function<Normalize>),
) -> Result<Kernel, Unsupported> {
    let facts = Facts::of(p, arch);
    let ty = scalar::register(p.input().dtype);
    if !s.legal(&facts) || !matches!(ty, Ty::F32 | Ty::F64) {
        return Err(Unsupported(format!("{s} does not fit rows of {}{:?}", p.input().dtype, p.input().view.shape)));
    }
    let mut k = Writer::for_arch(arch);
    let row = k.op(Ty::U32, Op::Special(Special::Block), &[]);
    let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
    k.fast = facts.size == 2;
    let b = Block { ty, row, thread, threads, vector: vector as usize, n: facts.n };
    let params = match p {
        RowProblem::Softmax(p) => softmax(&mut k, &b, p),
        RowProblem::Normalize(p) => normalize(&mut k, &b, p),
    };
    Ok(k.finish(S::FAMILY, params, threads, facts.rows as u32))
}

fn softmax(k: &mut Writer, b: &Block, p: &Softmax) -> u32 {
    let x = b.load(k, 0, &p.input, f64::NEG_INFINITY);
    let largest = b.reduce(k, &x, |k, a, b| k.extreme(true, a, b));
    let shifted: Vec<Val> = x.iter().map(|&x| k.sub(x, largest)).collect();
    let powers: Vec<Val> = shifted.iter().map(|&x| b.exp(k, x)).collect();
    let powers = b.only_inside(k, &powers);
    let sum = b.reduce(k, &powers, Writer::add);
    let results: Vec<Val> = if p.log {
        let log = b.log(k, sum);
        shifted.iter().map(|&x| k.sub(x, log)).collect()
    } else {
        powers.iter().map(|&x| b.divide(k, x, sum)).collect()
    };
    b.store(k, 1, &p.output, &results);
    2
}

fn normalize(k: &mut Writer, b: &Block, p: &Normalize) -> u32 {
    let mut x = b.load(k, 0, &p.input, 0.0);
    let mut param = 1;
    let mut sum_to = None;
    if let Some((residual, sum)) = &p.residual {
        let r = b.load(k, param, residual, 0.0);
        x = x.iter().zip(r).map(|(&x, r)| k.add(x, r)).collect();
        sum_to = sum.as_ref();
        param += 1;
    }
    let scale = p.scale.as_ref().map(|o| {
        param += 1;
        b.load(k, param - 1, o, 0.0)
    });
    let bias = p.bias.as_ref().map(|o| {
        param += 1;
        b.load(k, param - 1, o, 0.0)
    });
    let n = k.float(b.n as f64, b.ty);
    let centered = match p.kind {
        NormKind::Rms => x.clone(),
        NormKind::Layer => {
            let sum = b.reduce(k, &x, Writer::add);
            let mean = k.op(b.ty, Op::Div, &[sum, n]);
            let centered: Vec<Val> = x.iter().map(|&x| k.sub(x, mean)).collect();
            b.only_inside(k, &centered)
        }
    };
    let squares: Vec<Val> = centered.iter().map(|&x| k.op(b.ty, Op::Mul, &[x, x])).collect();
    let sum = b.reduce(k, &squares, Writer::add);
    let variance = k.op(b.ty, Op::Div, &[sum, n]);
    let epsilon = k.float(p.epsilon, b.ty);
    let variance = k.add(variance, epsilon);
    let deviation = k.op(b.ty, Op::Sqrt, &[variance]);
    let mut results: Vec<Val> = centered.iter().map(|&x| b.divide(k, x, deviation)).collect();
    if let Some(scale) = scale {
        results = results.iter().zip(scale).map(|(&x, s)| k.op(b.ty, Op::Mul, &[x, s])).collect();
    }
    if let Some(bias) = bias {
        results = results.iter().zip(bias).map(|(&x, b)| k.add(x, b)).collect();
    }
    b.store(k, param, &p.output, &results);
    if let Some(to) = sum_to {
        param += 1;
        b.store(k, param, to, &x);
    }
    param + 1
}

/// A block's row; each thread holds every `threads`-th group of `vector` neighbours.
pub(super) struct Block {
    /// The type that is computed in.
    pub ty: Ty,
    pub row: Val,
    pub thread: Val,
    pub threads: u32,
    pub vector: usize,
    pub n: usize,
}

impl Block {
    /// By group of the thread, the number of its first element, and whether it exists where that is not known.
    fn groups(&self, k: &mut Writer) -> Vec<(Val, Option<Val>)> {
        let width = self.threads as usize * self.vector;
        let first = k.scaled(self.thread, self.vector as i64);
        (0..self.n.div_ceil(width))
            .map(|i| {
                let at = k.plus(first, (i * width) as i64);
                let partial = (i + 1) * width > self.n;
                (at, partial.then(|| k.below(at, self.n as i64)))
            })
            .collect()
    }

    /// The address of a group in an operand.
    pub fn place(&self, k: &mut Writer, param: u32, o: &Operand, at: Val) -> Val {
        let rank = o.view.shape.len();
        let linear = Linear::view(&o.view, &o.view.shape);
        let start = linear.start(k);
        let row = linear.term(k, self.row, &(0..rank - 1).collect::<Vec<_>>());
        let column = linear.term(k, at, &[rank - 1]);
        let at = k.add(start.offset, row.offset);
        let at = k.add(at, column.offset);
        k.element(param, at, o.dtype.bytes())
    }

    fn load(&self, k: &mut Writer, param: u32, o: &Operand, outside: f64) -> Vec<Val> {
        self.groups(k).into_iter().flat_map(|(at, inside)| self.group(k, (param, o), at, inside, outside)).collect()
    }

    /// The group that begins at an element, or what stands for it where it does not exist.
    pub fn group(&self, k: &mut Writer, (param, o): (u32, &Operand), at: Val, inside: Option<Val>, outside: f64) -> Vec<Val> {
        let neutral = k.float(outside, self.ty);
        let along = o.view.strides.last() != Some(&0);
        let address = self.place(k, param, o, at);
        let group: Vec<Val> = (0..self.vector).map(|_| k.variable(neutral)).collect();
        let read = |k: &mut Writer| {
            let loaded = scalar::load_neighbours(k, o.dtype, address, 0, if along { self.vector } else { 1 });
            group.iter().enumerate().for_each(|(i, &v)| k.assign(v, loaded[i % loaded.len()]));
        };
        k.when_some(inside, read);
        group
    }

    /// The values, zero where there is no element.
    fn only_inside(&self, k: &mut Writer, values: &[Val]) -> Vec<Val> {
        let zero = k.float(0.0, self.ty);
        let groups = self.groups(k);
        let mut kept = vec![];
        for (group, (_, inside)) in values.chunks(self.vector).zip(groups) {
            kept.extend(group.iter().map(|&v| inside.map_or(v, |p| k.select(p, v, zero))).collect::<Vec<_>>());
        }
        kept
    }

    fn store(&self, k: &mut Writer, param: u32, o: &Operand, values: &[Val]) {
        let groups = self.groups(k);
        for (group, (at, inside)) in values.chunks(self.vector).zip(groups) {
            let address = self.place(k, param, o, at);
            k.when_some(inside, |k| scalar::store_neighbours(k, o.dtype, address, 0, group));
        }
    }

    pub fn exp(&self, k: &mut Writer, x: Val) -> Val {
        if self.ty == Ty::F64 { double::exp(k, x) } else { math::exp(k, x) }
    }

    pub fn log(&self, k: &mut Writer, x: Val) -> Val {
        if self.ty == Ty::F64 { double::log(k, x) } else { math::log(k, x) }
    }

    pub fn divide(&self, k: &mut Writer, x: Val, y: Val) -> Val {
        if self.ty == Ty::F64 { k.op(Ty::F64, Op::Div, &[x, y]) } else { math::divide(k, x, y) }
    }

    /// All elements of the row combined, the same in every thread: lanes by shuffles, then warps in their order.
    pub fn reduce(&self, k: &mut Writer, values: &[Val], combine: impl Fn(&mut Writer, Val, Val) -> Val) -> Val {
        let mut total = values[0];
        for &v in &values[1..] {
            total = combine(k, total, v);
        }
        for mask in [16, 8, 4, 2, 1] {
            let other = exchanged(k, total, mask);
            total = combine(k, total, other);
        }
        if self.threads == 32 {
            return total;
        }
        let warps = self.threads / 32;
        let (mem, size) = if self.ty == Ty::F64 { (MemTy::F64, 8) } else { (MemTy::F32, 4) };
        let shared = k.shared(warps * size);
        let (warp, lane) = k.div_rem(self.thread, 32);
        let bytes = k.scaled(warp, i64::from(size));
        let to = k.add(shared, bytes);
        let zero = k.int(0, Ty::U32);
        let leads = k.compare(Cmp::Eq, lane, zero);
        k.when(leads, |k| k.store(mem, to, &[total]));
        k.barrier();
        let mut total = k.load(mem, self.ty, shared, 1)[0];
        for other in 1..warps {
            let x = k.load_at(mem, self.ty, shared, (other * size) as i32, 1)[0];
            total = combine(k, total, x);
        }
        total
    }
}

/// The value of the lane whose number differs in these bits; one of 64 bits goes in halves.
fn exchanged(k: &mut Writer, x: Val, mask: u32) -> Val {
    if x.ty != Ty::F64 {
        return k.op(x.ty, Op::ShuffleXor(mask), &[x]);
    }
    let half = k.int(32, Ty::U32);
    let bits = k.op(Ty::U64, Op::Bits(Ty::F64), &[x]);
    let high = k.op(Ty::U64, Op::Shr, &[bits, half]);
    let [low, high] = [bits, high].map(|bits| {
        let word = k.op(Ty::U32, Op::Convert(Ty::U64), &[bits]);
        let word = k.op(Ty::U32, Op::ShuffleXor(mask), &[word]);
        k.op(Ty::U64, Op::Convert(Ty::U32), &[word])
    });
    let high = k.op(Ty::U64, Op::Shl, &[high, half]);
    let bits = k.op(Ty::U64, Op::Or, &[low, high]);
    k.op(Ty::F64, Op::Bits(Ty::U64), &[bits])
}
