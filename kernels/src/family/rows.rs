//! Softmax and normalization: a block keeps a row in registers and reduces it by shuffles and one exchange in shared memory.

use super::affine::Linear;
use super::{Unsupported, math, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Kernel, MemTy, Op, Special, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::problem::{NormKind, Normalize, Operand, Softmax};

/// The functions of rows.
pub enum RowProblem {
    /// Exponentials over their sum.
    Softmax(Softmax),
    /// Statistics, scale and bias.
    Normalize(Box<Normalize>),
}

impl RowProblem {
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
    }
}

/// What a schedule of rows depends on.
pub struct Facts {
    rows: usize,
    n: usize,
    small: bool,
    arch: Arch,
}

impl Facts {
    fn of(p: &RowProblem, arch: &Arch) -> Self {
        let shape = &p.input().view.shape;
        let n = shape.last().copied().unwrap_or(0);
        let rows = shape[..shape.len().saturating_sub(1)].iter().product();
        let small = p.input().view.span().is_some_and(|s| s.1 < 1 << 30) && n > 0 && rows > 0 && rows < 1 << 31;
        Self { rows, n, small, arch: *arch }
    }
}

/// Elements of a thread at most: they stay in registers.
const HELD: usize = 32;

impl Rows {
    fn fits(&self, f: &Facts) -> bool {
        f.small && f.n.div_ceil(self.threads as usize) <= HELD
    }

    fn estimate(&self, f: &Facts) -> f64 {
        let rounds = f.n.div_ceil(self.threads as usize) as f64;
        let resident = f64::from(f.arch.sms * f.arch.resident(self.threads, 40 + rounds as u32, 512));
        let waves = (f.rows as f64 / resident).ceil();
        1000.0 + waves * (900.0 + 60.0 * rounds + f64::from(self.threads)) / 1.7
    }
}

/// The kernel of rows; its parameters are the problem's operands.
///
/// # Errors
/// Where the schedule does not fit, or a type is not generated yet.
pub fn rows(p: &RowProblem, s: &Rows, arch: &Arch) -> Result<Kernel, Unsupported> {
    let facts = Facts::of(p, arch);
    if !s.legal(&facts) || scalar::register(p.input().dtype) != Ty::F32 {
        return Err(Unsupported(format!("{s} does not fit rows of {}{:?}", p.input().dtype, p.input().view.shape)));
    }
    if matches!(p, RowProblem::Softmax(p) if p.log) {
        return Err(Unsupported("the logarithm of a softmax".to_owned()));
    }
    let mut k = Writer::for_arch(arch);
    let row = k.op(Ty::U32, Op::Special(Special::Block), &[]);
    let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
    let b = Block { row, thread, threads: s.threads, n: facts.n };
    let params = match p {
        RowProblem::Softmax(p) => softmax(&mut k, &b, p),
        RowProblem::Normalize(p) => normalize(&mut k, &b, p),
    };
    Ok(k.finish("rows", params, s.threads, facts.rows as u32))
}

fn softmax(k: &mut Writer, b: &Block, p: &Softmax) -> u32 {
    let x = b.load(k, 0, &p.input, f64::NEG_INFINITY);
    let largest = b.reduce(k, &x, |k, a, b| {
        let (less, nan) = (k.compare(Cmp::Lt, a, b), k.compare(Cmp::Nan, b, b));
        let take = k.op(Ty::Pred, Op::Or, &[less, nan]);
        k.select(take, b, a)
    });
    let shifted: Vec<Val> = x.iter().map(|&x| k.sub(x, largest)).collect();
    let powers: Vec<Val> = shifted.iter().map(|&x| math::exp(k, x)).collect();
    let powers = b.only_inside(k, &powers);
    let sum = b.reduce(k, &powers, Writer::add);
    let results: Vec<Val> = powers.iter().map(|&x| k.op(Ty::F32, Op::Div, &[x, sum])).collect();
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
    let n = k.float(b.n as f64, Ty::F32);
    let centered = match p.kind {
        NormKind::Rms => x.clone(),
        NormKind::Layer => {
            let sum = b.reduce(k, &x, Writer::add);
            let mean = k.op(Ty::F32, Op::Div, &[sum, n]);
            let centered: Vec<Val> = x.iter().map(|&x| k.sub(x, mean)).collect();
            b.only_inside(k, &centered)
        }
    };
    let squares: Vec<Val> = centered.iter().map(|&x| k.op(Ty::F32, Op::Mul, &[x, x])).collect();
    let sum = b.reduce(k, &squares, Writer::add);
    let variance = k.op(Ty::F32, Op::Div, &[sum, n]);
    let epsilon = k.float(p.epsilon, Ty::F32);
    let variance = k.add(variance, epsilon);
    let deviation = k.op(Ty::F32, Op::Sqrt, &[variance]);
    let mut results: Vec<Val> = centered.iter().map(|&x| k.op(Ty::F32, Op::Div, &[x, deviation])).collect();
    if let Some(scale) = scale {
        results = results.iter().zip(scale).map(|(&x, s)| k.op(Ty::F32, Op::Mul, &[x, s])).collect();
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

/// A block's row; each thread holds every `threads`-th element.
struct Block {
    row: Val,
    thread: Val,
    threads: u32,
    n: usize,
}

impl Block {
    /// By element of the thread, its number, and whether it exists where that is not known.
    fn elements(&self, k: &mut Writer) -> Vec<(Val, Option<Val>)> {
        let rounds = self.n.div_ceil(self.threads as usize);
        (0..rounds)
            .map(|i| {
                let at = k.plus(self.thread, i as i64 * i64::from(self.threads));
                let partial = (i + 1) * self.threads as usize > self.n;
                (at, partial.then(|| k.below(at, self.n as i64)))
            })
            .collect()
    }

    /// The address of the thread's elements in an operand.
    fn place(&self, k: &mut Writer, param: u32, o: &Operand, at: Val) -> Val {
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
        let (mem, raw) = scalar::memory(o.dtype);
        let neutral = k.float(outside, Ty::F32);
        let elements = self.elements(k);
        let mut values = vec![];
        for (at, inside) in elements {
            let address = self.place(k, param, o, at);
            let value = k.variable(neutral);
            let read = |k: &mut Writer| {
                let x = k.load(mem, raw, address, 1)[0];
                let x = scalar::widen(k, x, o.dtype);
                k.assign(value, x);
            };
            match inside {
                Some(p) => k.when(p, read),
                None => read(k),
            }
            values.push(value);
        }
        values
    }

    /// The values, zero where there is no element.
    fn only_inside(&self, k: &mut Writer, values: &[Val]) -> Vec<Val> {
        let zero = k.float(0.0, Ty::F32);
        let elements = self.elements(k);
        values.iter().zip(elements).map(|(&v, (_, inside))| inside.map_or(v, |p| k.select(p, v, zero))).collect()
    }

    fn store(&self, k: &mut Writer, param: u32, o: &Operand, values: &[Val]) {
        let mem = scalar::memory(o.dtype).0;
        let elements = self.elements(k);
        for (&v, (at, inside)) in values.iter().zip(elements) {
            let address = self.place(k, param, o, at);
            let v = scalar::narrow(k, v, o.dtype);
            match inside {
                Some(p) => k.when(p, |k| k.store(mem, address, &[v])),
                None => k.store(mem, address, &[v]),
            }
        }
    }

    /// All elements of the row combined, the same in every thread: lanes by shuffles, then warps in their order.
    fn reduce(&self, k: &mut Writer, values: &[Val], combine: impl Fn(&mut Writer, Val, Val) -> Val) -> Val {
        let mut total = values[0];
        for &v in &values[1..] {
            total = combine(k, total, v);
        }
        for mask in [16, 8, 4, 2, 1] {
            let other = k.op(Ty::F32, Op::ShuffleXor(mask), &[total]);
            total = combine(k, total, other);
        }
        if self.threads == 32 {
            return total;
        }
        let warps = self.threads / 32;
        let shared = k.shared(warps * 4);
        let (warp, lane) = k.div_rem(self.thread, 32);
        let bytes = k.scaled(warp, 4);
        let to = k.add(shared, bytes);
        let zero = k.int(0, Ty::U32);
        let leads = k.compare(Cmp::Eq, lane, zero);
        k.when(leads, |k| k.store(MemTy::F32, to, &[total]));
        k.barrier();
        let mut total = k.load(MemTy::F32, Ty::F32, shared, 1)[0];
        for other in 1..warps {
            let x = k.load_at(MemTy::F32, Ty::F32, shared, other as i32 * 4, 1)[0];
            total = combine(k, total, x);
        }
        total
    }
}
