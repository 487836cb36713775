//! Along one dimension, a thread for each line: running sums and products, and positions of extremes.

use super::{Unsupported, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Kernel, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::problem::{ArgReduce, Scan};
use wpk_plan::{Binary, DType, ScalarFn, Unary};

/// The problems that go along lines.
pub enum LineProblem {
    /// Running sums or products.
    Scan(Scan),
    /// The position of the largest or smallest.
    ArgReduce(ArgReduce),
}

impl LineProblem {
    /// Blocks before the axis, its extent, elements behind it, and the element type.
    fn extents(&self) -> ([usize; 3], DType) {
        match self {
            Self::Scan(p) => ([p.outer, p.n, p.inner], p.dtype),
            Self::ArgReduce(p) => ([p.outer, p.n, p.inner], p.dtype),
        }
    }
}

schedule! {
    /// How lines are gone along.
    Lines(LineProblem => Facts) = "lines" {
        /// Threads of a block.
        threads: [32, 64, 128, 256],
    }
}

/// What a schedule of such a problem depends on.
pub struct Facts {
    lines: usize,
    n: usize,
    size: usize,
    /// Whether neighbouring threads read neighbouring elements.
    coalesced: bool,
    small: bool,
    arch: Arch,
}

impl Facts {
    fn of(p: &LineProblem, arch: &Arch) -> Self {
        let ([outer, n, inner], dtype) = p.extents();
        let small = (1..1 << 30).contains(&(outer * n * inner)) && dtype != DType::Text;
        Self { lines: outer * inner, n, size: dtype.bytes(), coalesced: inner >= 8, small, arch: *arch }
    }
}

impl Lines {
    fn fits(&self, f: &Facts) -> bool {
        f.small
    }

    /// Every element waits for the one before; the fewer lines, the smaller the blocks that spread them.
    fn estimate(&self, f: &Facts) -> f64 {
        let blocks = f.lines.div_ceil(self.threads as usize);
        let waves = (blocks as f64 * f64::from(self.threads) / f64::from(f.arch.sms) / f64::from(f.arch.threads)).ceil();
        let bytes = (f.lines * f.n * f.size) as f64 * if f.coalesced { 2.0 } else { 16.0 };
        let idle = f64::from(self.threads) / (blocks as f64).min(f64::from(f.arch.sms));
        1500.0 + idle + (20.0 * f.n as f64 * waves).max(bytes / f.arch.bandwidth)
    }
}

/// The kernel; its parameters are the input and the output.
///
/// # Errors
/// Where the schedule does not fit, or a type is not generated yet.
pub fn lines(p: &LineProblem, s: &Lines, arch: &Arch) -> Result<Kernel, Unsupported> {
    let facts = Facts::of(p, arch);
    let ([_, n, inner], dtype) = p.extents();
    if !s.legal(&facts) {
        return Err(Unsupported(format!("{s} does not fit lines of {dtype}")));
    }
    let mut k = Writer::for_arch(arch);
    let thread = k.thread(s.threads);
    let inside = k.below(thread, facts.lines as i64);
    let mut result = Ok(());
    k.when(inside, |k| {
        let (outer, element) = k.div_rem(thread, inner as u32);
        let first = k.scaled(outer, (n * inner) as i64);
        let first = k.add(first, element);
        let line = Line { dtype, first, inner };
        result = match p {
            LineProblem::Scan(p) => scan(k, p, &line),
            LineProblem::ArgReduce(p) => arg_reduce(k, p, &line, thread),
        };
    });
    result?;
    Ok(k.finish("lines", 2, s.threads, (facts.lines as u32).div_ceil(s.threads)))
}

/// Where a thread's line lies in the input.
struct Line {
    dtype: DType,
    first: Val,
    inner: usize,
}

impl Line {
    /// The place of an element of the line.
    fn at(&self, k: &mut Writer, i: Val) -> Val {
        let moved = k.scaled(i, self.inner as i64);
        let at = k.add(self.first, moved);
        Val { ty: Ty::S32, ..at }
    }

    fn read(&self, k: &mut Writer, at: Val) -> Val {
        let address = k.element(0, at, self.dtype.bytes());
        scalar::load_neighbours(k, self.dtype, address, 0, 1)[0]
    }
}

/// A function of values alone.
fn emit(k: &mut Writer, f: &ScalarFn, inputs: &[Val]) -> Result<Vec<Val>, Unsupported> {
    scalar::emit(k, f, inputs, &mut |k, _| k.int(0, Ty::U32))
}

fn scan(k: &mut Writer, p: &Scan, line: &Line) -> Result<(), Unsupported> {
    let mut step = ScalarFn::default();
    let (total, x) = (step.input(0, p.dtype), step.input(1, p.dtype));
    step.outputs = vec![step.binary(if p.product { Binary::Mul } else { Binary::Add }, total, x)];
    let mut unit = ScalarFn::default();
    unit.outputs = vec![unit.constant(f64::from(u8::from(p.product)), p.dtype)];
    let unit = emit(k, &unit, &[])?[0];
    let total = k.variable(unit);
    let mut result = Ok(());
    k.repeat(p.n as u32, |k, i| {
        let i = if p.reverse {
            let last = k.int(p.n as i64 - 1, Ty::U32);
            k.sub(last, i)
        } else {
            i
        };
        let at = line.at(k, i);
        let x = line.read(k, at);
        let next = match emit(k, &step, &[total, x]) {
            Ok(next) => next[0],
            Err(e) => return result = Err(e),
        };
        let to = k.element(1, at, p.dtype.bytes());
        scalar::store_neighbours(k, p.dtype, to, 0, &[if p.exclusive { total } else { next }]);
        k.assign(total, next);
    });
    result
}

fn arg_reduce(k: &mut Writer, p: &ArgReduce, line: &Line, thread: Val) -> Result<(), Unsupported> {
    // The next element's value and position where it is better, else what was best.
    let mut step = ScalarFn::default();
    let (best, x) = (step.input(0, p.dtype), step.input(1, p.dtype));
    let (place, next) = (step.input(2, DType::I32), step.input(3, DType::I32));
    let (x_first, best_first) = if p.largest { ((best, x), (x, best)) } else { ((x, best), (best, x)) };
    let better = if p.last {
        let worse = step.binary(Binary::Lt, best_first.0, best_first.1);
        step.unary(Unary::Not, worse)
    } else {
        step.binary(Binary::Lt, x_first.0, x_first.1)
    };
    step.outputs = vec![step.select(better, x, best), step.select(better, next, place)];
    let zero = k.int(0, Ty::U32);
    let first = line.at(k, zero);
    let start = line.read(k, first);
    let (best, nothing) = (k.variable(start), k.int(0, Ty::S32));
    let place = k.variable(nothing);
    let mut result = Ok(());
    k.repeat(p.n as u32, |k, i| {
        let at = line.at(k, i);
        let x = line.read(k, at);
        match emit(k, &step, &[best, x, place, Val { ty: Ty::S32, ..i }]) {
            Ok(chosen) => {
                k.assign(best, chosen[0]);
                k.assign(place, chosen[1]);
            }
            Err(e) => result = Err(e),
        }
    });
    result?;
    let mut wide = ScalarFn::default();
    let i = wide.input(0, DType::I32);
    wide.outputs = vec![wide.cast(i, DType::I64)];
    let found = emit(k, &wide, &[place])?;
    let to = k.element(1, Val { ty: Ty::S32, ..thread }, DType::I64.bytes());
    scalar::store_neighbours(k, DType::I64, to, 0, &found);
    Ok(())
}
