//! Softmax and normalization of rows that do not fit the registers of a block: it reads them once for every sum, and once more for the results.

use super::Unsupported;
use super::rows::{Block, Facts, HELD, RowProblem, generate};
use super::scalar;
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Kernel, Op};
use crate::schedule::schedule;
use wpk_plan::problem::{NormKind, Normalize, Operand, Softmax};

schedule! {
    /// How long rows are computed.
    LongRows(RowProblem => Facts) = "long_rows" {
        /// Threads of a block, which takes one row.
        threads: [256, 512, 1024],
        /// Neighbouring elements of a thread.
        vector: [1, 2, 4, 8],
    }
}

impl LongRows {
    fn fits(&self, f: &Facts) -> bool {
        f.small && f.n > HELD * 1024 && f.together.is_multiple_of(self.vector) && self.vector as usize * f.size <= 16
    }

    /// Bytes read three times and written once, and what each thread does one after another.
    fn estimate(&self, f: &Facts) -> f64 {
        let rounds = f.n as f64 / f64::from(self.threads * self.vector);
        let waves = (f.rows as f64 / f64::from(f.arch.sms * (2048 / self.threads))).ceil();
        let traffic = 4.0 * (f.rows * f.n * f.size) as f64 / f.arch.bandwidth;
        2000.0 + traffic.max(waves * 3.0 * rounds * (150.0 + 12.0 * f64::from(self.vector)) / 1.7)
    }
}

/// The kernel of long rows; its parameters are the problem's operands.
///
/// # Errors
/// Where the schedule does not fit, or a type is not generated yet.
pub fn long_rows(p: &RowProblem, s: &LongRows, arch: &Arch) -> Result<Kernel, Unsupported> {
    generate(p, s, (s.threads, s.vector), arch, (softmax, normalize))
}

impl Block {
    /// Something for every group of the thread: its first element, and whether it exists.
    fn each(&self, k: &mut Writer, mut body: impl FnMut(&mut Writer, Val, Val)) {
        let width = self.threads as usize * self.vector;
        let first = k.scaled(self.thread, self.vector as i64);
        k.repeat(self.n.div_ceil(width) as u32, |k, round| {
            let moved = k.scaled(round, width as i64);
            let at = k.add(first, moved);
            let inside = k.below(at, self.n as i64);
            body(k, at, inside);
        });
    }

    /// The sum over the row of what elements give; those that do not exist give nothing.
    fn sum(&self, k: &mut Writer, mut of: impl FnMut(&mut Writer, Val, Val) -> Vec<Val>) -> Val {
        let zero = k.float(0.0, self.ty);
        let total = k.variable(zero);
        self.each(k, |k, at, inside| {
            for x in of(k, at, inside) {
                let x = k.select(inside, x, zero);
                k.update(total, Op::Add, &[total, x]);
            }
        });
        self.reduce(k, &[total], Writer::add)
    }

    fn put(&self, k: &mut Writer, (param, o): (u32, &Operand), (at, inside): (Val, Val), values: &[Val]) {
        let address = self.place(k, param, o, at);
        k.when(inside, |k| scalar::store_neighbours(k, o.dtype, address, 0, values));
    }
}

fn softmax(k: &mut Writer, b: &Block, p: &Softmax) -> u32 {
    let read = |k: &mut Writer, at: Val, inside: Val| b.group(k, (0, &p.input), at, Some(inside), f64::NEG_INFINITY);
    let lowest = k.float(f64::NEG_INFINITY, b.ty);
    let largest = k.variable(lowest);
    b.each(k, |k, at, inside| {
        for x in read(k, at, inside) {
            let larger = k.extreme(true, largest, x);
            k.assign(largest, larger);
        }
    });
    let largest = b.reduce(k, &[largest], |k, x, y| k.extreme(true, x, y));
    let shifted = |k: &mut Writer, at: Val, inside: Val| -> Vec<Val> {
        let group = read(k, at, inside);
        group.into_iter().map(|x| k.sub(x, largest)).collect()
    };
    let sum = b.sum(k, |k, at, inside| {
        let group = shifted(k, at, inside);
        group.into_iter().map(|x| b.exp(k, x)).collect()
    });
    let log = p.log.then(|| b.log(k, sum));
    b.each(k, |k, at, inside| {
        let group = shifted(k, at, inside);
        let one = |x: Val| match log {
            Some(log) => k.sub(x, log),
            None => {
                let power = b.exp(k, x);
                b.divide(k, power, sum)
            }
        };
        let results: Vec<Val> = group.into_iter().map(one).collect();
        b.put(k, (1, &p.output), (at, inside), &results);
    });
    2
}

fn normalize(k: &mut Writer, b: &Block, p: &Normalize) -> u32 {
    // Operands in their order.
    let mut next = 0;
    let mut number = || {
        next += 1;
        next - 1
    };
    let input = (number(), &p.input);
    let residual = p.residual.as_ref().map(|r| (number(), &r.0));
    let scale = p.scale.as_ref().map(|o| (number(), o));
    let bias = p.bias.as_ref().map(|o| (number(), o));
    let output = (number(), &p.output);
    let sum_to = p.residual.as_ref().and_then(|r| r.1.as_ref()).map(|o| (number(), o));
    let read = |k: &mut Writer, at: Val, inside: Val| -> Vec<Val> {
        let x = b.group(k, input, at, Some(inside), 0.0);
        let Some(residual) = residual else { return x };
        let r = b.group(k, residual, at, Some(inside), 0.0);
        x.into_iter().zip(r).map(|(x, r)| k.add(x, r)).collect()
    };
    let n = k.float(b.n as f64, b.ty);
    let mean = (p.kind == NormKind::Layer).then(|| {
        let sum = b.sum(k, read);
        k.op(b.ty, Op::Div, &[sum, n])
    });
    let centered = |k: &mut Writer, x: &[Val]| -> Vec<Val> { x.iter().map(|&x| mean.map_or(x, |mean| k.sub(x, mean))).collect() };
    let sum = b.sum(k, |k, at, inside| {
        let x = read(k, at, inside);
        let x = centered(k, &x);
        x.into_iter().map(|x| k.op(b.ty, Op::Mul, &[x, x])).collect()
    });
    let variance = k.op(b.ty, Op::Div, &[sum, n]);
    let epsilon = k.float(p.epsilon, b.ty);
    let variance = k.add(variance, epsilon);
    let deviation = k.op(b.ty, Op::Sqrt, &[variance]);
    b.each(k, |k, at, inside| {
        let x = read(k, at, inside);
        let mut results: Vec<Val> = centered(k, &x).into_iter().map(|x| b.divide(k, x, deviation)).collect();
        if let Some(scale) = scale {
            let s = b.group(k, scale, at, Some(inside), 0.0);
            results = results.into_iter().zip(s).map(|(x, s)| k.op(b.ty, Op::Mul, &[x, s])).collect();
        }
        if let Some(bias) = bias {
            let s = b.group(k, bias, at, Some(inside), 0.0);
            results = results.into_iter().zip(s).map(|(x, s)| k.add(x, s)).collect();
        }
        b.put(k, output, (at, inside), &results);
        if let Some(to) = sum_to {
            b.put(k, to, (at, inside), &x);
        }
    });
    next
}
