//! Maps: a scalar function over strided operands, block by block.

use super::code::{BLOCK, Code, Register};
use super::floats::Floats;
use super::{Args, Bound, Cx, part};
use wpk_plan::Walk;
use wpk_plan::minifloat::Format;
use wpk_plan::number::bf16;
use wpk_plan::problem::Map;
use wpk_plan::{DType, Expr};

/// How the rows of an operand lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// One behind the other.
    Following,
    /// All at one place.
    Same,
    Apart,
}

struct Bind {
    code: Code,
    /// The function where it is one of bytes, in `f32`.
    floats: Option<Floats>,
    walk: Walk,
    /// By operand.
    rows: Vec<Rows>,
    /// Element types of inputs, then outputs.
    types: Vec<DType>,
    inputs: usize,
    /// Instruction that reads each input, where one does.
    reads: Vec<Option<usize>>,
    /// Instructions that read coordinates, with the dimension.
    indices: Vec<(usize, usize)>,
}

pub(super) fn bind(p: &Map) -> Result<Box<dyn Bound>, String> {
    let operands = || p.inputs.iter().chain(&p.outputs);
    let views: Vec<&wpk_plan::View> = operands().map(|o| &o.view).collect();
    let insts = &p.function.insts;
    let find = |i: usize| insts.iter().position(|s| s.expr == Expr::Input(i as u16));
    let indices: Vec<(usize, usize)> =
        insts.iter().enumerate().filter_map(|(i, s)| if let Expr::Index(d) = s.expr { Some((i, usize::from(d))) } else { None }).collect();
    let walk = Walk::new(&views, indices.is_empty());
    let rows = walk.strides.iter().map(|strides| match strides.split_last() {
        Some((_, outer)) if outer.iter().all(|&s| s == 0) => Rows::Same,
        _ if (1..strides.len()).all(|d| strides[d - 1] == strides[d] * walk.shape[d] as i64) => Rows::Following,
        _ => Rows::Apart,
    });
    Ok(Box::new(Bind {
        code: Code::new(&p.function),
        floats: Floats::new(&p.function),
        rows: rows.collect(),
        walk,
        types: operands().map(|o| o.dtype).collect(),
        inputs: p.inputs.len(),
        reads: (0..p.inputs.len()).map(find).collect(),
        indices,
    }))
}

impl Bound for Bind {
    fn scratch(&self) -> (usize, usize) {
        (0, self.floats.as_ref().map_or(0, Floats::scratch).max(self.code.scratch()))
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let (rows, inner) = (self.walk.rows(), self.walk.inner());
        let blocks = inner.div_ceil(BLOCK);
        // Short rows are computed several at a time.
        let together = if self.floats.is_some() || !self.indices.is_empty() { 1 } else { (BLOCK / inner.max(1)).clamp(1, rows.max(1)) };
        let total = rows.div_ceil(together) * blocks;
        let elements = rows * inner;
        let tasks = if elements < 16 * 1024 { 1 } else { (cx.pool.threads() * 4).min(total) };
        let args = Args(args);
        cx.pool.run(tasks, &|task, thread| unsafe {
            let registers = self.code.registers(cx.own(thread));
            for unit in part(total, tasks, task) {
                let (row, block) = (unit / blocks * together, unit % blocks);
                let start = block * BLOCK;
                let some = (row, (rows - row).min(together));
                self.block(args, registers, cx.own(thread), some, start, (inner - start).min(BLOCK));
            }
        });
    }
}

impl Bind {
    /// Where a row of an operand begins.
    fn place(&self, operand: usize, row: usize) -> i64 {
        let first = self.walk.offsets[operand];
        match self.rows[operand] {
            Rows::Following => first + row as i64 * self.walk.inner() as i64 * self.walk.step(operand),
            Rows::Same => first,
            Rows::Apart => self.walk.row(operand, row),
        }
    }

    /// Some elements of a row, or several whole rows.
    unsafe fn block(&self, args: Args<'_>, registers: &mut [Register], own: *mut u8, (row, rows): (usize, usize), start: usize, n: usize) {
        let of_row = |operand: usize, row: usize| {
            let at = self.place(operand, row) + start as i64 * self.walk.step(operand);
            args.0[operand].wrapping_offset(at as isize * self.types[operand].bytes() as isize)
        };
        let pointer = |operand: usize| of_row(operand, row);
        let follow = |operand: usize| rows == 1 || self.rows[operand] == Rows::Following;
        if let Some(floats) = &self.floats {
            return unsafe {
                for (register, input) in floats.loads() {
                    floats.load(register, 0, pointer(input), self.walk.step(input) as isize, n, own);
                }
                floats.run(n, own);
                floats.store(0, pointer(self.inputs), self.walk.step(self.inputs) as isize, n, own);
            };
        }
        unsafe {
            for (operand, inst) in self.reads.iter().enumerate().filter_map(|(o, i)| Some((o, (*i)?))) {
                let (p, t, step) = (pointer(operand), self.types[operand], self.walk.step(operand));
                registers[inst] = own.add(inst * BLOCK * 8);
                let to_row = |r: usize| own.add(inst * BLOCK * 8 + r * n * lane(t));
                if follow(operand) && step == 1 && matches!(t, DType::F32 | DType::F64 | DType::I64 | DType::U64) {
                    registers[inst] = p;
                } else if follow(operand) {
                    load(t, p, step as isize, registers[inst], rows * n);
                } else if self.rows[operand] == Rows::Same {
                    load(t, p, step as isize, registers[inst], n);
                    (1..rows).for_each(|r| to_row(0).copy_to_nonoverlapping(to_row(r), n * lane(t)));
                } else {
                    (0..rows).for_each(|r| load(t, of_row(operand, row + r), step as isize, to_row(r), n));
                }
            }
            for &(inst, d) in &self.indices {
                let last = d + 1 == self.walk.shape.len();
                let outer: usize = self.walk.shape[d + 1..].iter().product::<usize>() / if last { 1 } else { self.walk.inner() };
                let at = if last { start } else { row / outer % self.walk.shape[d] } as i64;
                let lanes = registers[inst].cast::<i64>();
                (0..n).for_each(|i| lanes.add(i).write(at + if last { i as i64 } else { 0 }));
            }
            // A result of a native type is computed where it belongs.
            for (o, &result) in self.code.function.outputs.iter().enumerate() {
                let (operand, result) = (self.inputs + o, usize::from(result));
                let (t, computed) =
                    (self.types[operand], !matches!(self.code.function.insts[result].expr, Expr::Input(_) | Expr::Index(_)));
                registers[result] = if !computed {
                    registers[result]
                } else if self.direct(operand, t, result) && follow(operand) {
                    pointer(operand)
                } else {
                    own.add(result * BLOCK * 8)
                };
            }
            self.code.run(registers, rows * n);
            for (o, &result) in self.code.function.outputs.iter().enumerate() {
                let (operand, result) = (self.inputs + o, usize::from(result));
                let (t, step) = (self.types[operand], self.walk.step(operand) as isize);
                if registers[result] == pointer(operand) {
                    continue;
                }
                if follow(operand) {
                    store(t, registers[result], pointer(operand), step, rows * n);
                } else {
                    (0..rows).for_each(|r| store(t, registers[result].add(r * n * lane(t)), of_row(operand, row + r), step, n));
                }
            }
        }
    }

    /// Whether a register may lie in the output itself.
    fn direct(&self, operand: usize, t: DType, result: usize) -> bool {
        let native = matches!(t, DType::F32 | DType::F64 | DType::I64 | DType::U64);
        let once = self.code.function.outputs.iter().filter(|&&r| usize::from(r) == result).count() == 1;
        // A register in the output must not be written before an input over the same memory is read for the last time.
        let last = result + 1 == self.code.function.insts.len();
        native && once && last && self.walk.step(operand) == 1
    }
}

/// Bytes of a lane.
fn lane(t: DType) -> usize {
    if t.is_float() && t != DType::F64 { 4 } else { 8 }
}

/// Elements in memory to lanes.
pub(super) unsafe fn load(t: DType, p: *const u8, step: isize, to: Register, n: usize) {
    macro_rules! each {
        ($S:ty, $L:ty) => {{
            let (p, to) = (p.cast::<$S>(), to.cast::<$L>());
            for i in 0..n {
                unsafe { to.add(i).write(p.offset(i as isize * step).read_unaligned() as $L) }
            }
        }};
    }
    match t {
        DType::F32 => each!(f32, f32),
        DType::F64 => each!(f64, f64),
        DType::I64 | DType::U64 => each!(i64, i64),
        DType::I32 => each!(i32, i64),
        DType::U32 => each!(u32, i64),
        DType::I16 => each!(i16, i64),
        DType::U16 => each!(u16, i64),
        DType::I8 | DType::I4 | DType::I2 => each!(i8, i64),
        // Text is copied as numbers; no function reads it.
        DType::U8 | DType::Bool | DType::Text | DType::U4 | DType::U2 => each!(u8, i64),
        DType::F16 | DType::BF16 => {
            let (p, to) = (p.cast::<u16>(), to.cast::<f32>());
            let widen = if t == DType::F16 { f16_to_f32 } else { |x: u16| f32::from_bits(u32::from(x) << 16) };
            for i in 0..n {
                unsafe { to.add(i).write(widen(p.offset(i as isize * step).read_unaligned())) }
            }
        }
        DType::F8E4M3 | DType::F8E4M3Fnuz | DType::F8E5M2 | DType::F8E5M2Fnuz | DType::F8E8M0 | DType::F4E2M1 => {
            let Some(format) = Format::of(t) else { return };
            for i in 0..n {
                unsafe { to.cast::<f32>().add(i).write(format.decode(*p.offset(i as isize * step)) as f32) }
            }
        }
    }
}

/// Lanes to elements in memory.
pub(super) unsafe fn store(t: DType, from: Register, p: *mut u8, step: isize, n: usize) {
    macro_rules! each {
        ($L:ty, $S:ty) => {{
            let (from, p) = (from.cast::<$L>(), p.cast::<$S>());
            for i in 0..n {
                unsafe { p.offset(i as isize * step).write_unaligned(*from.add(i) as $S) }
            }
        }};
    }
    match t {
        DType::F32 => each!(f32, f32),
        DType::F64 => each!(f64, f64),
        DType::I64 | DType::U64 => each!(i64, i64),
        DType::I32 | DType::U32 => each!(i64, i32),
        DType::I16 | DType::U16 => each!(i64, i16),
        DType::I8 | DType::U8 | DType::Bool | DType::Text | DType::I4 | DType::U4 | DType::I2 | DType::U2 => each!(i64, u8),
        DType::F16 | DType::BF16 => {
            let (from, p) = (from.cast::<f32>(), p.cast::<u16>());
            let narrow = if t == DType::F16 { f32_to_f16 } else { bf16 };
            for i in 0..n {
                unsafe { p.offset(i as isize * step).write_unaligned(narrow(*from.add(i))) }
            }
        }
        DType::F8E4M3 | DType::F8E4M3Fnuz | DType::F8E5M2 | DType::F8E5M2Fnuz | DType::F8E8M0 | DType::F4E2M1 => {
            let Some(format) = Format::of(t) else { return };
            for i in 0..n {
                unsafe { p.offset(i as isize * step).write(format.encode(f64::from(*from.cast::<f32>().add(i)))) }
            }
        }
    }
}

fn f16_to_f32(x: u16) -> f32 {
    let (sign, magnitude) = (u32::from(x & 0x8000) << 16, u32::from(x & 0x7fff));
    let value = match magnitude {
        0x7c00.. => f32::from_bits(0x7f80_0000 | (magnitude & 0x3ff) << 13),
        // Scaling from the smaller exponent range also places subnormal values.
        _ => f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000),
    };
    f32::from_bits(value.to_bits() | sign)
}

pub fn f32_to_f16(x: f32) -> u16 {
    let (sign, magnitude) = ((x.to_bits() >> 16 & 0x8000) as u16, x.abs());
    let bits = match magnitude {
        m if m.is_nan() => 0x7e00,
        m if m >= 65_520.0 => 0x7c00,
        // Adding a power of two rounds a subnormal result to its last bit.
        m if m < 6.103_515_6e-5 => ((m + 0.5).to_bits() - 0.5f32.to_bits()) as u16,
        m => {
            let b = m.to_bits();
            let rounded = b + 0xfff + (b >> 13 & 1);
            ((rounded >> 13) - (112 << 10)) as u16
        }
    };
    sign | bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_conversions_invert_each_other() {
        for bits in 0..=u16::MAX {
            let wide = f16_to_f32(bits);
            if !wide.is_nan() {
                assert_eq!(f32_to_f16(wide), bits, "{wide}");
            }
        }
        assert_eq!((f32_to_f16(65_519.0), f32_to_f16(1e-8), f32_to_f16(2.980_232_2e-8)), (0x7bff, 0, 0));
        assert_eq!((bf16(1.0), bf16(1.003_906_3)), (0x3f80, 0x3f80));
    }
}
