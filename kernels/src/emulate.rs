//! The emulator: the tree executed on the CPU, block by block, all threads of a block in step.
//!
//! It is strict where hardware is not: accesses out of bounds, misaligned or of memory that was never written are errors.

use crate::ptx::{Cmp, Kernel, MemTy, Op, Operand, Reg, Space, Special, Stmt, Ty};
use half::f16;
use std::collections::BTreeMap;

/// Addresses of one buffer begin at its number times this.
const SPAN: u64 = 1 << 40;

/// Runs a kernel on buffers, one per parameter.
///
/// # Errors
/// The first access that a correct kernel would not make.
pub fn run(kernel: &Kernel, buffers: &mut [Vec<u8>]) -> Result<(), String> {
    for block in 0..kernel.blocks {
        let threads = kernel.threads as usize;
        let shared = Shared { bytes: vec![0; kernel.shared as usize], touched: vec![Touch::default(); kernel.shared as usize] };
        let mut state = Block { buffers, shared, registers: BTreeMap::new(), block, threads };
        state.body(&kernel.body, &vec![true; threads])?;
    }
    Ok(())
}

/// The block's shared memory, with who touched each byte since the last barrier.
struct Shared {
    bytes: Vec<u8>,
    touched: Vec<Touch>,
}

#[derive(Clone, Copy, Default)]
struct Touch {
    /// Whether it was ever written.
    written: bool,
    writer: Option<usize>,
    /// The reader, or `usize::MAX` for several.
    reader: Option<usize>,
}

struct Block<'a> {
    buffers: &'a mut [Vec<u8>],
    shared: Shared,
    /// The bits of each register by thread.
    registers: BTreeMap<Reg, Vec<u64>>,
    block: u32,
    threads: usize,
}

impl Block<'_> {
    fn value(&self, o: Operand, thread: usize) -> u64 {
        match o {
            Operand::Imm(bits) => bits,
            Operand::Reg(r) => self.find(r).map_or(0, |v| v[thread]),
        }
    }

    /// Registers of one class share their numbers whatever the sign.
    fn find(&self, r: Reg) -> Option<&Vec<u64>> {
        let other = match r.ty {
            Ty::S32 => Ty::U32,
            Ty::U32 => Ty::S32,
            Ty::S64 => Ty::U64,
            Ty::U64 => Ty::S64,
            t => t,
        };
        self.registers.get(&r).or_else(|| self.registers.get(&Reg { ty: other, ..r }))
    }

    fn set(&mut self, r: Reg, thread: usize, bits: u64) {
        let threads = self.threads;
        self.registers.entry(r).or_insert_with(|| vec![0; threads])[thread] = bits;
    }

    fn body(&mut self, body: &[Stmt], active: &[bool]) -> Result<(), String> {
        for stmt in body {
            if let Stmt::If { condition, then } = stmt {
                let inner: Vec<bool> = (0..self.threads).map(|t| active[t] && self.value(Operand::Reg(*condition), t) != 0).collect();
                if inner.contains(&true) {
                    self.body(then, &inner)?;
                }
                continue;
            }
            if let Stmt::Barrier = stmt {
                if active.contains(&false) {
                    return Err(format!("block {}: a barrier that not all threads reach", self.block));
                }
                self.shared.touched.iter_mut().for_each(|t| (t.writer, t.reader) = (None, None));
                continue;
            }
            if let Stmt::Loop { counter, count, body, .. } = stmt {
                for round in 0..*count {
                    (0..self.threads).for_each(|t| self.set(*counter, t, u64::from(round)));
                    self.body(body, active)?;
                }
                continue;
            }
            for thread in (0..self.threads).filter(|&t| active[t]) {
                self.step(stmt, thread).map_err(|e| format!("block {} thread {thread}: {e}", self.block))?;
            }
        }
        Ok(())
    }

    fn step(&mut self, stmt: &Stmt, thread: usize) -> Result<(), String> {
        match stmt {
            Stmt::Op { to, op, args } => {
                let args: Vec<u64> = args.iter().map(|a| self.value(*a, thread)).collect();
                let bits = match op {
                    Op::Special(Special::Thread) => thread as u64,
                    Op::Special(Special::Block) => u64::from(self.block),
                    Op::Param(n) => u64::from(*n + 1) * SPAN,
                    op => compute(*op, to.ty, &args),
                };
                self.set(*to, thread, bits);
            }
            Stmt::Load { space: Space::Shared, ty, to, address, offset } => {
                let at = self.shared_place(*ty, to.len(), *address, *offset, thread)?;
                for (i, r) in to.iter().enumerate() {
                    let at = at + i * ty.bytes();
                    for b in at..at + ty.bytes() {
                        let touch = &mut self.shared.touched[b];
                        if !touch.written {
                            return Err(format!("shared byte {b} is read before it is written"));
                        }
                        if touch.writer.is_some_and(|w| w != thread) {
                            return Err(format!("shared byte {b} is read without a barrier after thread {:?} wrote it", touch.writer));
                        }
                        touch.reader = Some(if touch.reader.is_none_or(|r| r == thread) { thread } else { usize::MAX });
                    }
                    let mut bytes = [0; 8];
                    bytes[..ty.bytes()].copy_from_slice(&self.shared.bytes[at..at + ty.bytes()]);
                    self.set(*r, thread, u64::from_le_bytes(bytes));
                }
            }
            Stmt::Store { space: Space::Shared, ty, from, address, offset } => {
                let at = self.shared_place(*ty, from.len(), *address, *offset, thread)?;
                for (i, o) in from.iter().enumerate() {
                    let at = at + i * ty.bytes();
                    for b in at..at + ty.bytes() {
                        let touch = &mut self.shared.touched[b];
                        let other = |t: Option<usize>| t.is_some_and(|t| t != thread);
                        if other(touch.writer) || other(touch.reader) {
                            return Err(format!("shared byte {b} is written while another thread uses it"));
                        }
                        (touch.written, touch.writer) = (true, Some(thread));
                    }
                    let bytes = self.value(*o, thread).to_le_bytes();
                    self.shared.bytes[at..at + ty.bytes()].copy_from_slice(&bytes[..ty.bytes()]);
                }
            }
            Stmt::Load { ty, to, address, offset, .. } => {
                let place = self.place(*ty, to.len(), *address, *offset, thread)?;
                for (i, r) in to.iter().enumerate() {
                    let at = place.1 + i * ty.bytes();
                    let mut bytes = [0; 8];
                    bytes[..ty.bytes()].copy_from_slice(&self.buffers[place.0][at..at + ty.bytes()]);
                    let bits = u64::from_le_bytes(bytes);
                    let bits = match ty {
                        MemTy::S8 => u64::from(bits as u8 as i8 as i32 as u32),
                        MemTy::S16 => u64::from(bits as u16 as i16 as i32 as u32),
                        _ => bits,
                    };
                    self.set(*r, thread, bits);
                }
            }
            Stmt::Store { ty, from, address, offset, .. } => {
                let place = self.place(*ty, from.len(), *address, *offset, thread)?;
                for (i, o) in from.iter().enumerate() {
                    let at = place.1 + i * ty.bytes();
                    let bytes = self.value(*o, thread).to_le_bytes();
                    self.buffers[place.0][at..at + ty.bytes()].copy_from_slice(&bytes[..ty.bytes()]);
                }
            }
            Stmt::If { .. } | Stmt::Barrier | Stmt::Loop { .. } => {}
        }
        Ok(())
    }

    /// The byte of an access to shared memory, checked.
    fn shared_place(&self, ty: MemTy, n: usize, address: Reg, offset: i32, thread: usize) -> Result<usize, String> {
        let at = (self.value(Operand::Reg(address), thread) as u32).wrapping_add_signed(offset) as usize;
        let bytes = n * ty.bytes();
        if at + bytes > self.shared.bytes.len() || !at.is_multiple_of(bytes) {
            return Err(format!("{bytes} bytes at {at} of {} bytes of shared memory", self.shared.bytes.len()));
        }
        Ok(at)
    }

    /// The buffer and byte of an access, checked.
    fn place(&self, ty: MemTy, n: usize, address: Reg, offset: i32, thread: usize) -> Result<(usize, usize), String> {
        let address = self.value(Operand::Reg(address), thread).wrapping_add(offset as i64 as u64);
        let (buffer, at, bytes) = ((address / SPAN).wrapping_sub(1) as usize, (address % SPAN) as usize, n * ty.bytes());
        let len = self.buffers.get(buffer).map(Vec::len).ok_or_else(|| format!("address {address:#x} is in no buffer"))?;
        if at + bytes > len {
            return Err(format!("{bytes} bytes at {at} leave buffer {buffer} of {len}"));
        }
        if at % bytes != 0 {
            return Err(format!("{bytes} bytes at {at} of buffer {buffer} are not aligned"));
        }
        Ok((buffer, at))
    }
}

/// The result of an operation on bits.
fn compute(op: Op, ty: Ty, a: &[u64]) -> u64 {
    let f = |i: usize| f32::from_bits(a[i] as u32);
    let g = |i: usize| f64::from_bits(a[i]);
    let single = |x: f32| u64::from(x.to_bits());
    match (op, ty) {
        (Op::Compare(c, of), _) => u64::from(compare(c, of, a[0], a[1])),
        (Op::Convert(from), _) => convert(from, ty, a[0]),
        (Op::FromHalf, Ty::F64) => f16::from_bits(a[0] as u16).to_f64().to_bits(),
        (Op::FromHalf, _) => single(f16::from_bits(a[0] as u16).to_f32()),
        (Op::ToHalf, _) => u64::from(f16::from_f32(f(0)).to_bits()),
        (Op::Select, _) => {
            if a[2] != 0 {
                a[0]
            } else {
                a[1]
            }
        }
        (Op::Set | Op::Mov | Op::Bits(_), _) => a[0],
        (Op::MulHi, _) => (u64::from(a[0] as u32) * u64::from(a[1] as u32)) >> 32,
        (Op::MulWide, _) => u64::from(a[0] as u32) * u64::from(a[1] as u32),
        (op, Ty::F32) => single(match op {
            Op::Add => f(0) + f(1),
            Op::Sub => f(0) - f(1),
            Op::Mul => f(0) * f(1),
            Op::Fma => f(0).mul_add(f(1), f(2)),
            Op::Div => f(0) / f(1),
            Op::Sqrt => f(0).sqrt(),
            Op::Abs => f(0).abs(),
            Op::Neg => -f(0),
            Op::Round => f(0).round_ties_even(),
            Op::Floor => f(0).floor(),
            Op::Ceil => f(0).ceil(),
            _ => f32::NAN,
        }),
        (op, Ty::F64) => match op {
            Op::Add => g(0) + g(1),
            Op::Sub => g(0) - g(1),
            Op::Mul => g(0) * g(1),
            Op::Fma => g(0).mul_add(g(1), g(2)),
            Op::Div => g(0) / g(1),
            Op::Sqrt => g(0).sqrt(),
            Op::Abs => g(0).abs(),
            Op::Neg => -g(0),
            Op::Round => g(0).round_ties_even(),
            Op::Floor => g(0).floor(),
            Op::Ceil => g(0).ceil(),
            _ => f64::NAN,
        }
        .to_bits(),
        (op, ty) => integer(op, ty, a),
    }
}

/// A value of an integer type, with its sign.
fn signed(ty: Ty, bits: u64) -> i128 {
    match ty {
        Ty::S32 => i128::from(bits as u32 as i32),
        Ty::U32 => i128::from(bits as u32),
        Ty::S64 => i128::from(bits as i64),
        _ => i128::from(bits),
    }
}

fn integer(op: Op, ty: Ty, a: &[u64]) -> u64 {
    let x = |i: usize| signed(ty, a[i]);
    let wide = matches!(ty, Ty::S64 | Ty::U64);
    let shift = a.get(1).map_or(0, |s| (*s as u32).min(if wide { 64 } else { 32 }));
    let result = match op {
        Op::Add => x(0) + x(1),
        Op::Sub => x(0) - x(1),
        Op::Mul => x(0).wrapping_mul(x(1)),
        // Hardware leaves a quotient by zero open; generated code selects it away.
        Op::Div => x(0).checked_div(x(1)).unwrap_or(-1),
        Op::Abs => x(0).abs(),
        Op::Neg => -x(0),
        Op::And => i128::from(a[0] & a[1]),
        Op::Or => i128::from(a[0] | a[1]),
        Op::Xor => i128::from(a[0] ^ a[1]),
        Op::Shl => x(0) << shift,
        Op::Shr => x(0) >> shift,
        _ => 0,
    };
    if wide || matches!(ty, Ty::Pred | Ty::B16) { result as u64 } else { u64::from(result as u32) }
}

fn compare(c: Cmp, ty: Ty, a: u64, b: u64) -> bool {
    let float = match ty {
        Ty::F32 => Some((f64::from(f32::from_bits(a as u32)), f64::from(f32::from_bits(b as u32)))),
        Ty::F64 => Some((f64::from_bits(a), f64::from_bits(b))),
        _ => None,
    };
    match (c, float) {
        (Cmp::Eq, Some((x, y))) => x == y,
        (Cmp::Lt, Some((x, y))) => x < y,
        (Cmp::Le, Some((x, y))) => x <= y,
        (Cmp::Nan, Some((x, y))) => x.is_nan() || y.is_nan(),
        (Cmp::Eq, None) => signed(ty, a) == signed(ty, b),
        (Cmp::Lt, None) => signed(ty, a) < signed(ty, b),
        (Cmp::Le, None) => signed(ty, a) <= signed(ty, b),
        (Cmp::Nan, None) => false,
    }
}

fn convert(from: Ty, to: Ty, bits: u64) -> u64 {
    let float = match from {
        Ty::F32 => Some(f64::from(f32::from_bits(bits as u32))),
        Ty::F64 => Some(f64::from_bits(bits)),
        _ => None,
    };
    match (float, to) {
        (Some(x), Ty::F32) => u64::from((x as f32).to_bits()),
        (Some(x), Ty::F64) => x.to_bits(),
        (Some(x), Ty::S32) => u64::from(x as i32 as u32),
        (Some(x), Ty::U32) => u64::from(x as u32),
        (Some(x), Ty::S64) => x as i64 as u64,
        (Some(x), _) => x as u64,
        (None, Ty::F32) => u64::from((signed(from, bits) as f32).to_bits()),
        (None, Ty::F64) => (signed(from, bits) as f64).to_bits(),
        (None, Ty::S64 | Ty::U64) => signed(from, bits) as u64,
        (None, _) => u64::from(bits as u32),
    }
}
