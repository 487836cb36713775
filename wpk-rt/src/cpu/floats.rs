//! Scalar functions that read and write bytes and 32-bit sums but compute in `f32`: what quantized models are made of. Levels of eight bits
//! are exact in `f32`, so `i8(...)` within such a function is no more than a bound, and quantization is one pass over a block.

use super::code::{BLOCK, Register, unary_f32};
use super::isa::dispatch;
use super::requantize::{Column, Level, Requantize, Residual};
use wpk_plan::{Binary, DType, Expr, ScalarFn, Unary};

/// One pass over a block; its result is the register of the same number.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    /// An input of a type as `f32`, less a number.
    Load {
        input: u16,
        dtype: DType,
        minus: f32,
    },
    /// An input of `i32` as it is.
    Raw(u16),
    /// Two registers of `i32` added, as `f32`.
    Sum(u16, u16),
    Unary(Unary, u16),
    Binary(Binary, u16, u16),
    /// With a constant on the right.
    With(Binary, u16, f32),
    /// `x * y + z`
    MulAdd(u16, u16, u16),
    Quantize(u16, Level),
}

/// A function ready to run on blocks.
pub(crate) struct Floats {
    ops: Vec<Op>,
    result: u16,
    /// The type of the result in memory.
    pub(crate) out: DType,
}

/// What is being translated.
struct Translation<'a> {
    f: &'a ScalarFn,
    ops: Vec<Op>,
    /// The register of an instruction, once it has one.
    known: Vec<Option<u16>>,
    uses: Vec<usize>,
}

impl Translation<'_> {
    fn expr(&self, v: u16) -> Expr {
        self.f.insts[usize::from(v)].expr
    }

    fn constant(&self, v: u16) -> Option<f32> {
        match (self.expr(v), self.f.dtype(v)) {
            (Expr::Const(bits), t) if t.is_float() => Some(f64::from_bits(bits) as f32),
            // Levels and zero points are small.
            (Expr::Const(bits), _) => i32::try_from(bits as i64).ok().filter(|x| x.abs() < 1 << 23).map(|x| x as f32),
            _ => None,
        }
    }

    fn push(&mut self, op: Op) -> u16 {
        self.ops.iter().position(|o| *o == op).unwrap_or_else(|| {
            self.ops.push(op);
            self.ops.len() - 1
        }) as u16
    }

    /// The register of an `f32` value.
    fn float(&mut self, v: u16) -> Option<u16> {
        if self.f.dtype(v) != DType::F32 {
            return None;
        }
        if let Some(known) = self.known[usize::from(v)] {
            return Some(known);
        }
        let op = match self.expr(v) {
            Expr::Input(input) => Op::Load { input, dtype: DType::F32, minus: 0.0 },
            Expr::Cast(x) => self.levels(x)?,
            Expr::Unary(u, x) => Op::Unary(u, self.float(x)?),
            Expr::Binary(b, x, y) => match self.quantize(v) {
                Some(op) => op,
                None => self.binary(b, x, y)?,
            },
            _ => return None,
        };
        let at = self.push(op);
        self.known[usize::from(v)] = Some(at);
        Some(at)
    }

    fn binary(&mut self, b: Binary, x: u16, y: u16) -> Option<Op> {
        if !matches!(b, Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Max | Binary::Min) {
            return None;
        }
        if let Some(c) = self.constant(y) {
            return Some(Op::With(b, self.float(x)?, c));
        }
        for (x, z) in [(x, y), (y, x)] {
            if let (Binary::Add, Expr::Binary(Binary::Mul, p, q), 1) = (b, self.expr(x), self.uses[usize::from(x)])
                && self.constant(q).is_none()
            {
                return Some(Op::MulAdd(self.float(p)?, self.float(q)?, self.float(z)?));
            }
        }
        Some(Op::Binary(b, self.float(x)?, self.float(y)?))
    }

    /// `min(max(round(x / by) + zero, low), high)` by whole levels.
    fn quantize(&mut self, v: u16) -> Option<Op> {
        let Expr::Binary(Binary::Min, inner, high) = self.expr(v) else { return None };
        let Expr::Binary(Binary::Max, inner, low) = self.expr(inner) else { return None };
        let (high, low) = (self.constant(high)?, self.constant(low)?);
        let (rounded, zero) = match self.expr(inner) {
            Expr::Binary(Binary::Add, rounded, zero) => (rounded, self.constant(zero)?),
            _ => (inner, 0.0),
        };
        let Expr::Unary(Unary::Round, x) = self.expr(rounded) else { return None };
        let (mut x, by) = match self.expr(x) {
            Expr::Binary(Binary::Div, x, by) => (x, self.constant(by)?),
            _ => (x, 1.0),
        };
        let (mut low, mut high) = (low, high);
        // Rounding keeps the order: bounds before it, as of activations, are bounds of levels.
        while by > 0.0
            && let Expr::Binary(b @ (Binary::Max | Binary::Min), inner, bound) = self.expr(x)
            && let Some(bound) = self.constant(bound)
        {
            let level = (bound / by).round_ties_even() + zero;
            (low, high) = if b == Binary::Max { (low.max(level), high) } else { (low, high.min(level)) };
            x = inner;
        }
        if low > high {
            return None;
        }
        let whole = [zero, low, high].iter().all(|x| x.fract() == 0.0);
        whole.then_some(Op::Quantize(self.float(x)?, Level { by, zero, low, high }))
    }

    /// An integer as `f32`.
    fn levels(&mut self, v: u16) -> Option<Op> {
        let (v, minus) = match self.expr(v) {
            Expr::Binary(Binary::Sub, x, c) if self.constant(c).is_some() => (x, self.constant(c)?),
            Expr::Binary(Binary::Add, x, c) if self.constant(c).is_some() => (x, -self.constant(c)?),
            Expr::Binary(Binary::Add, x, y) => {
                let raw = |t: &mut Self, v: u16| match t.expr(v) {
                    Expr::Input(i) if t.f.dtype(v) == DType::I32 => Some(t.push(Op::Raw(i))),
                    _ => None,
                };
                return Some(Op::Sum(raw(self, x)?, raw(self, y)?));
            }
            _ => (v, 0.0),
        };
        let v = match self.expr(v) {
            Expr::Cast(x) if self.f.dtype(v) == DType::I32 => x,
            _ => v,
        };
        match (self.expr(v), self.f.dtype(v)) {
            (Expr::Input(input), dtype @ (DType::I8 | DType::U8)) => Some(Op::Load { input, dtype, minus }),
            (Expr::Input(input), dtype @ DType::I32) if minus == 0.0 => Some(Op::Load { input, dtype, minus }),
            (Expr::Cast(x), dtype @ (DType::I8 | DType::U8)) => {
                let x = self.bounded(x, dtype)?;
                Some(Op::With(Binary::Sub, x, minus))
            }
            _ => None,
        }
    }

    /// The register of levels that a type of eight bits holds.
    fn bounded(&mut self, v: u16, dtype: DType) -> Option<u16> {
        let at = self.float(v)?;
        let (least, most) = dtype.int_range();
        match self.ops[usize::from(at)] {
            Op::Quantize(_, Level { low, high, .. }) if low >= least as f32 && high <= most as f32 => Some(at),
            _ => None,
        }
    }
}

impl Floats {
    /// The function, where it is of this kind.
    pub(crate) fn new(f: &ScalarFn) -> Option<Self> {
        let [output] = f.outputs[..] else { return None };
        let mut uses = vec![0; f.insts.len()];
        f.insts.iter().for_each(|i| i.expr.operands().iter().for_each(|&x| uses[usize::from(x)] += 1));
        uses[usize::from(output)] += 1;
        let mut t = Translation { f, ops: vec![], known: vec![None; f.insts.len()], uses };
        let out = f.dtype(output);
        let result = match (t.expr(output), out) {
            (Expr::Cast(x), DType::I8 | DType::U8) => t.bounded(x, out)?,
            (_, DType::F32) => t.float(output)?,
            _ => return None,
        };
        let bytes = out != DType::F32 || t.ops.iter().any(|o| !matches!(o, Op::Load { dtype: DType::F32, .. }) && o.loads().is_some());
        bytes.then_some(Self { ops: t.ops, result, out })
    }

    /// The function as the end of a sum of bytes, where it is no more: input 0 is the sum.
    pub(super) fn requantization(&self) -> Option<Requantize> {
        let op = |at: u16| self.ops[usize::from(at)];
        if self.out == DType::F32 {
            let Op::With(Binary::Mul, x, by) = op(self.result) else { return None };
            let (x, less) = match op(x) {
                Op::With(Binary::Sub, x, less) => (x, less),
                _ => (x, 0.0),
            };
            return Some(Requantize { number: Some((less, by)), ..self.end(x)? });
        }
        let Op::Quantize(x, level) = op(self.result) else { return None };
        if !level.is_narrow() {
            return None;
        }
        if let Op::Binary(Binary::Add, p, q) = op(x) {
            // Levels of the sum and of a residual, both as numbers.
            let scaled = |at: u16| match op(at) {
                Op::With(Binary::Mul, x, by) => (x, by),
                _ => (at, 1.0),
            };
            let residual = |at: u16| match (scaled(at), op(scaled(at).0)) {
                ((_, by), Op::Load { input, dtype: DType::I8, minus }) if input > 0 => Some((usize::from(input), (minus, by))),
                _ => None,
            };
            let sum = |at: u16| {
                let (inner, by) = scaled(at);
                let (inner, less) = match op(inner) {
                    Op::With(Binary::Sub, inner, less) => (inner, less),
                    _ => (inner, 0.0),
                };
                Some((self.end(inner)?, (less, by)))
            };
            if let Some((input, own)) = residual(q).or_else(|| residual(p))
                && let Some((end, sum)) = sum(p).or_else(|| sum(q))
            {
                return Some(Requantize { residual: Some(Residual { input, own, sum, level }), ..end });
            }
        }
        self.end(self.result)
    }

    /// The end of a sum of bytes that a register is.
    fn end(&self, at: u16) -> Option<Requantize> {
        let op = |at: u16| self.ops[usize::from(at)];
        let vector = |at: u16| match op(at) {
            Op::Load { input, dtype: DType::F32, .. } if input > 0 => Some(Column::Input(input.into())),
            _ => None,
        };
        let Op::Quantize(x, level) = op(at) else { return None };
        if !level.is_narrow() {
            return None;
        }
        let (sum, m, b) = match op(x) {
            Op::MulAdd(sum, m, b) => (sum, vector(m)?, vector(b)?),
            Op::Binary(Binary::Mul, sum, m) => (sum, vector(m)?, Column::Const(0.0)),
            Op::With(Binary::Mul, sum, m) => (sum, Column::Const(m), Column::Const(0.0)),
            Op::With(Binary::Add, x, b) => match op(x) {
                Op::With(Binary::Mul, sum, m) => (sum, Column::Const(m), Column::Const(b)),
                Op::Binary(Binary::Mul, sum, m) => (sum, vector(m)?, Column::Const(b)),
                _ => return None,
            },
            Op::Binary(Binary::Add, x, b) => match op(x) {
                Op::With(Binary::Mul, sum, m) => (sum, Column::Const(m), vector(b)?),
                _ => return None,
            },
            _ => return None,
        };
        let a = match op(sum) {
            Op::Load { input: 0, dtype: DType::I32, .. } => None,
            Op::Sum(s, a) => match (op(s), op(a)) {
                (Op::Raw(0), Op::Raw(a)) if a > 0 => Some(usize::from(a)),
                _ => return None,
            },
            _ => return None,
        };
        Some(Requantize { a, m, b, level, residual: None, number: None })
    }

    /// Bytes of scratch for all registers of one thread.
    pub(crate) fn scratch(&self) -> usize {
        (self.ops.len() * BLOCK * 4).next_multiple_of(64) + 64
    }

    fn register(scratch: *mut u8, at: usize) -> Register {
        scratch.wrapping_add(at * BLOCK * 4)
    }

    /// The loads: which register, and which input.
    pub(crate) fn loads(&self) -> impl Iterator<Item = (usize, usize)> {
        self.ops.iter().enumerate().filter_map(|(i, op)| Some((i, op.loads()?)))
    }

    /// Loads `n` neighbours, or one element for all where `step` is zero, to the lanes of a register from `lane` on.
    ///
    /// # Safety
    /// `p` must be valid for them, `scratch` hold [`Floats::scratch`] bytes, and the lanes fit a block.
    pub(crate) unsafe fn load(&self, register: usize, lane: usize, p: *const u8, step: isize, n: usize, scratch: *mut u8) {
        let to = Self::register(scratch, register).wrapping_add(lane * 4);
        unsafe {
            match self.ops[register] {
                Op::Load { dtype, minus, .. } => load(dtype, p, step, minus, to.cast(), n),
                _ => raw(p.cast(), step, to.cast(), n),
            }
        }
    }

    /// Computes `n` lanes from what was loaded.
    ///
    /// # Safety
    /// `scratch` must hold [`Floats::scratch`] bytes; `n` is at most a block.
    pub(crate) unsafe fn run(&self, n: usize, scratch: *mut u8) {
        for (i, op) in self.ops.iter().enumerate().filter(|o| o.1.loads().is_none()) {
            unsafe { execute(op, Self::register(scratch, 0).cast(), Self::register(scratch, i).cast(), n) }
        }
    }

    /// Stores `n` lanes of the result from `lane` on.
    ///
    /// # Safety
    /// As for [`Floats::run`]; `p` must be valid for what is stored.
    pub(crate) unsafe fn store(&self, lane: usize, p: *mut u8, step: isize, n: usize, scratch: *mut u8) {
        let from = Self::register(scratch, usize::from(self.result)).wrapping_add(lane * 4).cast::<f32>();
        unsafe { store(self.out, from, p, step, n) }
    }
}

impl Op {
    /// The input, where it loads one.
    fn loads(&self) -> Option<usize> {
        match self {
            Self::Load { input, .. } | Self::Raw(input) => Some(usize::from(*input)),
            _ => None,
        }
    }
}

dispatch! {
    unsafe fn load(dtype: DType, p: *const u8, step: isize, minus: f32, to: *mut f32, n: usize) = load_body
}

#[inline(always)]
unsafe fn load_body(dtype: DType, p: *const u8, step: isize, minus: f32, to: *mut f32, n: usize) {
    macro_rules! each {
        ($T:ty, $float:expr) => {{
            let p = p.cast::<$T>();
            unsafe {
                match step {
                    0 => (0..n).for_each(|i| to.add(i).write($float(p.read_unaligned()) - minus)),
                    1 => (0..n).for_each(|i| to.add(i).write($float(p.add(i).read_unaligned()) - minus)),
                    _ => (0..n).for_each(|i| to.add(i).write($float(p.offset(i as isize * step).read_unaligned()) - minus)),
                }
            }
        }};
    }
    match dtype {
        DType::I8 => each!(i8, |x: i8| f32::from(x)),
        DType::U8 => each!(u8, |x: u8| f32::from(x)),
        DType::I32 => each!(i32, |x: i32| x as f32),
        _ => each!(f32, |x: f32| x),
    }
}

dispatch! {
    unsafe fn raw(p: *const i32, step: isize, to: *mut i32, n: usize) = raw_body
}

#[inline(always)]
unsafe fn raw_body(p: *const i32, step: isize, to: *mut i32, n: usize) {
    (0..n).for_each(|i| unsafe { to.add(i).write(p.offset(i as isize * step).read_unaligned()) });
}

dispatch! {
    unsafe fn store(dtype: DType, from: *const f32, p: *mut u8, step: isize, n: usize) = store_body
}

#[inline(always)]
unsafe fn store_body(dtype: DType, from: *const f32, p: *mut u8, step: isize, n: usize) {
    // Levels are within the type, so that the conversion through `i32` needs no bounds of its own.
    let level = |x: f32| unsafe { x.to_int_unchecked::<i32>() } as u8;
    unsafe {
        match (dtype, step) {
            (DType::F32, _) => (0..n).for_each(|i| p.cast::<f32>().offset(i as isize * step).write_unaligned(*from.add(i))),
            (_, 1) => (0..n).for_each(|i| p.add(i).write(level(*from.add(i)))),
            _ => (0..n).for_each(|i| p.offset(i as isize * step).write(level(*from.add(i)))),
        }
    }
}

dispatch! {
    unsafe fn execute(op: &Op, registers: *mut f32, to: *mut f32, n: usize) = execute_body
}

#[inline(always)]
unsafe fn execute_body(op: &Op, registers: *mut f32, to: *mut f32, n: usize) {
    let at = |r: u16| registers.wrapping_add(usize::from(r) * BLOCK).cast_const();
    macro_rules! each {
        ($i:ident => $value:expr) => {
            (0..n).for_each(|$i| unsafe { to.add($i).write($value) })
        };
    }
    let larger = |x: f32, y: f32| if x > y || x.is_nan() { x } else { y };
    let smaller = |x: f32, y: f32| if x < y || x.is_nan() { x } else { y };
    match *op {
        Op::Load { .. } | Op::Raw(_) => {}
        Op::Sum(a, b) => {
            let (a, b) = (at(a).cast::<i32>(), at(b).cast::<i32>());
            each!(i => (*a.add(i)).wrapping_add(*b.add(i)) as f32);
        }
        Op::Unary(u, x) => unsafe { unary_f32(u, at(x).cast_mut().cast(), to.cast(), n) },
        Op::Binary(b, x, y) => {
            let (x, y) = (at(x), at(y));
            match b {
                Binary::Add => each!(i => *x.add(i) + *y.add(i)),
                Binary::Sub => each!(i => *x.add(i) - *y.add(i)),
                Binary::Mul => each!(i => *x.add(i) * *y.add(i)),
                Binary::Div => each!(i => *x.add(i) / *y.add(i)),
                Binary::Max => each!(i => larger(*x.add(i), *y.add(i))),
                _ => each!(i => smaller(*x.add(i), *y.add(i))),
            }
        }
        Op::With(b, x, c) => {
            let x = at(x);
            match b {
                Binary::Add => each!(i => *x.add(i) + c),
                Binary::Sub => each!(i => *x.add(i) - c),
                Binary::Mul => each!(i => *x.add(i) * c),
                Binary::Div => each!(i => *x.add(i) / c),
                Binary::Max => each!(i => larger(*x.add(i), c)),
                _ => each!(i => smaller(*x.add(i), c)),
            }
        }
        Op::MulAdd(x, y, z) => {
            let (x, y, z) = (at(x), at(y), at(z));
            each!(i => *x.add(i) * *y.add(i) + *z.add(i));
        }
        Op::Quantize(x, level) => {
            let x = at(x);
            each!(i => level.of(*x.add(i)));
        }
    }
}
