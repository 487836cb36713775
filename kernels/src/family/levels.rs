//! Products of a few rows by weights that are levels of a few bits with scales: what a decoder computes for each token, as long as memory
//! takes to give the levels. A thread makes four neighbouring rows of a panel of sixteen columns numbers in its registers; the threads of a
//! block share the depth, and meet at its end.

use super::affine::{Linear, small};
use super::factors::Size;
use super::output::{self, Rectangle};
use super::{Product, Unsupported, minifloat, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Kernel, MemTy, Op, Special, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::DType;
use wpk_plan::minifloat::Format;
use wpk_plan::problem::{BLOCK, Contraction, PANEL};

schedule! {
    /// How rows are multiplied by levels.
    Levels(Product => Facts) = "levels" {
        /// Threads of a block.
        threads: [64, 128, 256, 512],
        /// Rows of a block.
        rows: [1, 2, 4, 8],
    }
}

/// Rows up to which weights are worth reading as levels again for every eight of them.
pub const ROWS: u32 = 16;

/// Depth of a thread in each round.
const DEPTH: u32 = 4;

/// What a schedule of such a product depends on.
pub struct Facts {
    size: Size,
    bits: usize,
    reads: bool,
    arch: Arch,
}

/// Whether this family computes a contraction, if its second factor is levels.
pub fn reads_levels(c: &Contraction) -> bool {
    let (roles, linear) = (c.roles(), Linear::access(&c.a, &c.space));
    let size = Size::of(&roles);
    let alone = size.batch == 1 && (1..=ROWS).contains(&size.m) && size.k.is_multiple_of(DEPTH);
    alone && size.k > 0 && c.dtype.is_float() && c.dtype.bytes() <= 4 && linear.checks.is_empty() && small(c)
}

impl Facts {
    fn of(p: &Product, arch: &Arch) -> Self {
        let roles = p.contraction.roles();
        let bits = p.layout.levels().unwrap_or(0);
        let reads = bits > 0 && reads_levels(&p.contraction) && roles.levels_len(bits) < 1 << 30;
        Self { size: Size::of(&roles), bits, reads, arch: *arch }
    }
}

impl Levels {
    fn sums(&self) -> u32 {
        self.rows * PANEL as u32
    }

    fn rounds(&self, k: u32) -> u32 {
        k.div_ceil(DEPTH * self.threads)
    }

    fn fits(&self, f: &Facts) -> bool {
        let registers = 64 + self.sums() + DEPTH * self.rows;
        f.reads && self.sums() <= self.threads && registers * self.threads <= 65536 && self.rows < 2 * f.size.m
    }

    /// The slower of memory and of the instructions that make levels numbers and multiply them.
    fn estimate(&self, f: &Facts) -> f64 {
        let (panels, groups) = (f64::from(f.size.n.div_ceil(PANEL as u32)), f64::from(f.size.m.div_ceil(self.rows)));
        let weights = f64::from(f.size.k) * f64::from(f.size.n);
        let bytes = weights * f.bits as f64 / 8.0 * (1.0 + 0.3 * (groups - 1.0));
        let per_sm = (panels * groups / f64::from(f.arch.sms)).ceil();
        let rounds = f64::from(self.rounds(f.size.k));
        let work = per_sm * rounds * f64::from(self.threads * DEPTH) * 16.0 * (3.5 + 1.25 * f64::from(self.rows)) / 128.0;
        let latency = rounds * 900.0 * (per_sm / 2.0).max(1.0) + 1200.0 + 4.0 * f64::from(self.sums()) + f64::from(self.threads) / 4.0;
        1000.0 + (work.max(latency) / 1.7).max(bytes / f.arch.bandwidth)
    }
}

/// The kernel of a product; its parameters are the first factor, the panels, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a function is not generated.
pub fn levels(p: &Product, s: &Levels, arch: &Arch) -> Result<Kernel, Unsupported> {
    let (c, f) = (&p.contraction, Facts::of(p, arch));
    if !s.legal(&f) {
        return Err(Unsupported(format!("{s} does not fit a product of {} over {:?} by {}", c.dtype, c.space, p.layout)));
    }
    let (roles, size) = (c.roles(), f.size);
    let groups = size.m.div_ceil(s.rows);
    let mut k = Writer::for_arch(arch);
    k.fast = c.out.dtype.bytes() == 2;
    let block = k.op(Ty::U32, Op::Special(Special::Block), &[]);
    let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
    let (panel, group) = k.div_rem(block, groups);
    let first = k.scaled(group, i64::from(s.rows));
    let start = k.scaled(panel, roles.levels_panel(f.bits) as i64);
    let weights = k.element(1, Val { ty: Ty::S32, ..start }, 1);
    let linear = Linear::access(&c.a, &c.space);
    let last = k.int(i64::from(size.m) - 1, Ty::U32);
    let rows: Vec<Val> = (0..s.rows)
        .map(|i| {
            let row = k.plus(first, i64::from(i));
            let row = if size.m.is_multiple_of(s.rows) { row } else { k.op(Ty::U32, Op::Min, &[row, last]) };
            let moved = linear.term(&mut k, row, &roles.m).offset;
            k.plus(moved, linear.base)
        })
        .collect();
    let zero = k.float(0.0, Ty::F32);
    let sums: Vec<Val> = (0..s.sums()).map(|_| k.variable(zero)).collect();
    let part = Part { p, bits: f.bits, weights, linear: &linear, depth: roles.k(), rows, scales: size.k.div_ceil(BLOCK as u32) };
    let begin = k.scaled(thread, i64::from(DEPTH));
    let end = k.int(i64::from(size.k - DEPTH), Ty::U32);
    let inside = if size.k < DEPTH * s.threads { k.op(Ty::U32, Op::Min, &[begin, end]) } else { begin };
    // Weights wait for no other kernel.
    k.constant_param(1);
    let early = part.fetch(&mut k, inside);
    k.wait_dependencies();
    let rounds = s.rounds(size.k);
    let round = |k: &mut Writer, number: Val, fetched: Option<&Fetched>| {
        let moved = k.scaled(number, i64::from(DEPTH * s.threads));
        let at = k.add(begin, moved);
        let add = |k: &mut Writer| {
            let now = fetched.map_or_else(|| part.fetch(k, at), Clone::clone);
            part.add(k, at, &now, &sums);
        };
        if size.k.is_multiple_of(DEPTH * s.threads) {
            return add(k);
        }
        let exists = k.below(at, i64::from(size.k));
        k.when(exists, add);
    };
    let none = k.int(0, Ty::U32);
    round(&mut k, none, Some(&early));
    if rounds <= 4 {
        (1..rounds).for_each(|i| {
            let number = k.int(i64::from(i), Ty::U32);
            round(&mut k, number, None);
        });
    } else {
        k.repeat(rounds - 1, |k, number| {
            let number = k.plus(number, 1);
            round(k, number, None);
        });
    }
    let lane = {
        let mask = k.int(31, Ty::U32);
        k.op(Ty::U32, Op::And, &[thread, mask])
    };
    let (own, shift) = meet(&mut k, lane, sums);
    // By warp, then by sum.
    let line = s.sums();
    let shared = k.shared(s.threads / 32 * line * 4);
    let (warp, _) = k.div_rem(thread, 32);
    let at = k.scaled(warp, i64::from(line));
    let index = if shift > 0 { k.div_rem(lane, 1 << shift).0 } else { k.scaled(lane, own.len() as i64) };
    let at = k.add(at, index);
    let bytes = k.scaled(at, 4);
    let to = k.add(shared, bytes);
    // Where there are fewer sums than lanes, some lanes have the same.
    let (_, twin) = k.div_rem(lane, 1 << shift);
    let leads = k.compare(Cmp::Eq, twin, none);
    let keep = |k: &mut Writer| own.iter().enumerate().for_each(|(i, &v)| k.store_at(MemTy::F32, to, 4 * i as i32, &[v]));
    if shift > 0 {
        k.when(leads, keep)
    } else {
        keep(&mut k)
    }
    k.barrier();
    let mut result = Ok(());
    let ends = k.below(thread, i64::from(line));
    k.when(ends, |k| {
        let bytes = k.scaled(thread, 4);
        let from = k.add(shared, bytes);
        let mut total = k.load(MemTy::F32, Ty::F32, from, 1)[0];
        for warp in 1..s.threads / 32 {
            let x = k.load_at(MemTy::F32, Ty::F32, from, (warp * line * 4) as i32, 1)[0];
            total = k.add(total, x);
        }
        let (row, column) = k.div_rem(thread, PANEL as u32);
        let row = k.add(first, row);
        let before = k.scaled(panel, PANEL as i64);
        let column = k.add(before, column);
        let whole = (size.m.is_multiple_of(s.rows), size.n.is_multiple_of(PANEL as u32));
        let rectangle = Rectangle { batch: none, rows: vec![row], columns: vec![column], group: 1, whole, ahead: 0 };
        result = output::store(k, c, &roles, &rectangle, &[vec![total]]);
    });
    result?;
    Ok(k.finish("levels", 3 + c.extras.len() as u32, s.threads, size.n.div_ceil(PANEL as u32) * groups))
}

/// The sums of all lanes, shared out among them: with every exchange a lane keeps half of what it has. Once that is a single one, lanes that
/// differ in the bits that are left, as many as are returned, get the same.
fn meet(k: &mut Writer, lane: Val, mut values: Vec<Val>) -> (Vec<Val>, u32) {
    let mut alike = 0;
    for step in [16, 8, 4, 2, 1] {
        let exchange = |k: &mut Writer, kept: Val, given: Val| {
            let other = k.op(Ty::F32, Op::ShuffleXor(step), &[given]);
            k.add(kept, other)
        };
        if values.len() == 1 {
            values[0] = exchange(k, values[0], values[0]);
            alike += 1;
            continue;
        }
        let (mask, none) = (k.int(i64::from(step), Ty::U32), k.int(0, Ty::U32));
        let own = k.op(Ty::U32, Op::And, &[lane, mask]);
        let low = k.compare(Cmp::Eq, own, none);
        let (lower, upper) = values.split_at(values.len() / 2);
        let halves = lower.iter().zip(upper).map(|(&a, &b)| {
            let (kept, given) = (k.select(low, a, b), k.select(low, b, a));
            exchange(k, kept, given)
        });
        values = halves.collect();
    }
    (values, alike)
}

/// Rows of levels in words, and the scales of their columns.
#[derive(Clone)]
struct Fetched {
    words: Vec<Val>,
    scales: Vec<Val>,
}

/// What a thread multiplies.
struct Part<'a> {
    p: &'a Product,
    bits: usize,
    /// The address of the panel.
    weights: Val,
    linear: &'a Linear,
    depth: Vec<usize>,
    /// Where the rows of the first factor begin.
    rows: Vec<Val>,
    /// Rows of scales.
    scales: u32,
}

impl Part<'_> {
    /// The levels of some neighbouring depths, with their scales.
    fn fetch(&self, k: &mut Writer, at: Val) -> Fetched {
        let row = (PANEL * self.bits / 8) as i64;
        let moved = k.scaled(at, row);
        let behind = k.plus(moved, i64::from(self.scales) * PANEL as i64 * 4);
        let bytes = k.bytes(Val { ty: Ty::S32, ..behind }, 1);
        let from = k.add(self.weights, bytes);
        let words = (0..DEPTH * row as u32 / 16).flat_map(|i| k.load_at(MemTy::B32, Ty::U32, from, 16 * i as i32, 4)).collect();
        let (block, _) = k.div_rem(at, BLOCK as u32);
        let bytes = k.bytes(Val { ty: Ty::S32, ..block }, PANEL * 4);
        let from = k.add(self.weights, bytes);
        Fetched { words, scales: scalar::load_neighbours(k, DType::F32, from, 0, PANEL) }
    }

    /// Adds the products of some neighbouring depths.
    fn add(&self, k: &mut Writer, at: Val, Fetched { words, scales }: &Fetched, sums: &[Val]) {
        let factors: Vec<Vec<Val>> = self.rows.iter().map(|&row| self.factors(k, row, at)).collect();
        let per_row = words.len() / DEPTH as usize;
        for column in 0..PANEL {
            let numbers: Vec<Val> = words.chunks(per_row).map(|words| self.number(k, words, column)).collect();
            for (i, factors) in factors.iter().enumerate() {
                let mut sum = k.mul(factors[0], numbers[0]);
                for (&a, &b) in factors.iter().zip(&numbers).skip(1) {
                    sum = k.fma(a, b, sum);
                }
                let total = sums[i * PANEL + column];
                k.update(total, Op::Fma, &[sum, scales[column], total]);
            }
        }
    }

    /// A row's elements of the first factor.
    fn factors(&self, k: &mut Writer, row: Val, at: Val) -> Vec<Val> {
        let dtype = self.p.contraction.dtype;
        let read = |k: &mut Writer, at: Val, n: usize| {
            let moved = self.linear.term(k, at, &self.depth).offset;
            let place = k.add(row, moved);
            let address = k.element(0, Val { ty: Ty::S32, ..place }, dtype.bytes());
            scalar::load_neighbours(k, dtype, address, 0, n)
        };
        if self.linear.together(&self.depth, DEPTH as usize) {
            return read(k, at, DEPTH as usize);
        }
        (0..DEPTH)
            .map(|i| {
                let at = k.plus(at, i64::from(i));
                read(k, at, 1)[0]
            })
            .collect()
    }

    /// The number that the level of a column is, from the words of a row.
    fn number(&self, k: &mut Writer, words: &[Val], column: usize) -> Val {
        let (word, shift) = match self.bits {
            8 => (words[column / 4], 8 * (column % 4)),
            // Low halves are the first eight columns.
            _ => (words[column % 8 / 4], 8 * (column % 4) + 4 * (column / 8)),
        };
        let (by, mask) = (k.int(shift as i64, Ty::U32), k.int((1 << self.bits) - 1, Ty::U32));
        let moved = if shift == 0 { word } else { k.op(Ty::U32, Op::Shr, &[word, by]) };
        let bits = k.op(Ty::U32, Op::And, &[moved, mask]);
        if let Some(format) = self.p.layout.numbers().and_then(Format::of) {
            return minifloat::decode(k, format, Val { ty: Ty::S32, ..bits });
        }
        // In the last bits of 2^23, with the sign's bit turned so that all are positive.
        let offset = 1i64 << (self.bits - 1);
        let (sign, unit) = (k.int(offset, Ty::U32), k.int(0x4b00_0000, Ty::U32));
        let positive = k.op(Ty::U32, Op::Xor, &[bits, sign]);
        let placed = k.op(Ty::U32, Op::Or, &[positive, unit]);
        let float = k.op(Ty::F32, Op::Bits(Ty::U32), &[placed]);
        let zero = k.float((8_388_608 + offset) as f64, Ty::F32);
        k.sub(float, zero)
    }
}
