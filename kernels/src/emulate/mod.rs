//! The emulator: the tree executed on the CPU, block by block, all threads of a block in step.
//!
//! It is strict where hardware is not. Accesses out of bounds, misaligned or of memory that was never written are errors.
//! So are two accesses to shared memory by different threads, one of them a write, without a barrier between, and reads of
//! what another block wrote without fences and an atomic operation between: orders that only barriers and fences make are
//! checked as such, so that no interleaving of threads has to be tried.

mod alu;
mod global;
mod matrix;
mod shared;

use crate::ptx::{Kernel, MemTy, Op, Operand, Reg, Space, Special, Stmt};
use global::{Global, SPAN};
use shared::Shared;

/// When asynchronous copies take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// When they are issued.
    Earliest,
    /// When they are waited for.
    Latest,
}

/// Runs a kernel on buffers, one per parameter: blocks in order, copies at the earliest moment.
///
/// # Errors
/// The first access that a correct kernel would not make.
pub fn run(kernel: &Kernel, buffers: &mut [Vec<u8>]) -> Result<(), String> {
    run_with(kernel, buffers, Moment::Earliest, 0)
}

/// Runs a kernel with its blocks in an order that `seed` names; 0 is their own.
///
/// # Errors
/// As for [`run`].
pub fn run_with(kernel: &Kernel, buffers: &mut [Vec<u8>], moment: Moment, seed: u64) -> Result<(), String> {
    let mut order: Vec<u32> = (0..kernel.blocks).collect();
    let mut state = seed;
    for i in (1..if seed == 0 { 0 } else { order.len() }).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(i, (state >> 33) as usize % (i + 1));
    }
    let mut global = Global::new(buffers, has_atomics(&kernel.body));
    let registers = count(&kernel.body) as usize + 1;
    for block in order {
        let threads = kernel.threads as usize;
        global.enter(block, threads);
        let mut state = Block {
            global: &mut global,
            shared: Shared::new(kernel.shared as usize, threads, moment),
            registers: vec![vec![]; registers],
            block,
            threads,
        };
        state.body(&kernel.body, &vec![true; threads])?;
        state.shared.finish().map_err(|e| format!("block {block}: {e}"))?;
    }
    Ok(())
}

fn has_atomics(body: &[Stmt]) -> bool {
    body.iter().any(|s| match s {
        Stmt::AtomicInc { .. } => true,
        Stmt::Loop { body, .. } | Stmt::If { then: body, .. } => has_atomics(body),
        _ => false,
    })
}

/// The largest register number.
fn count(body: &[Stmt]) -> u32 {
    let of = |s: &Stmt| match s {
        Stmt::Op { to, .. } | Stmt::AtomicInc { to, .. } => to.id,
        Stmt::Load { to, .. } | Stmt::LoadMatrix { to, .. } => to.iter().map(|r| r.id).max().unwrap_or(0),
        Stmt::Loop { counter, test, body, .. } => counter.id.max(test.id).max(count(body)),
        Stmt::If { then, .. } => count(then),
        _ => 0,
    };
    body.iter().map(of).max().unwrap_or(0)
}

struct Block<'a, 'b> {
    global: &'a mut Global<'b>,
    shared: Shared,
    /// The bits of each register by number and thread; registers of one class share numbers whatever the sign.
    registers: Vec<Vec<u64>>,
    block: u32,
    threads: usize,
}

impl Block<'_, '_> {
    fn value(&self, o: Operand, thread: usize) -> u64 {
        match o {
            Operand::Imm(bits) => bits,
            Operand::Reg(r) => self.registers[r.id as usize].get(thread).copied().unwrap_or(0),
        }
    }

    fn set(&mut self, r: Reg, thread: usize, bits: u64) {
        let values = &mut self.registers[r.id as usize];
        if values.is_empty() {
            values.resize(self.threads, 0);
        }
        values[thread] = bits;
    }

    fn body(&mut self, body: &[Stmt], active: &[bool]) -> Result<(), String> {
        for stmt in body {
            match stmt {
                Stmt::If { condition, then } => {
                    let inner: Vec<bool> = (0..self.threads).map(|t| active[t] && self.value(Operand::Reg(*condition), t) != 0).collect();
                    if inner.contains(&true) {
                        self.body(then, &inner)?;
                    }
                }
                Stmt::Barrier => {
                    if active.contains(&false) {
                        return Err(format!("block {}: a barrier that not all threads reach", self.block));
                    }
                    self.shared.barrier();
                    self.global.barrier();
                }
                Stmt::Loop { counter, count, body, .. } => {
                    for round in 0..*count {
                        (0..self.threads).for_each(|t| self.set(*counter, t, u64::from(round)));
                        self.body(body, active)?;
                    }
                }
                Stmt::LoadMatrix { .. } | Stmt::Mma { .. } => {
                    if active.contains(&false) {
                        return Err(format!("block {}: a matrix instruction that not all threads reach", self.block));
                    }
                    for warp in 0..self.threads / 32 {
                        self.matrix(stmt, 32 * warp).map_err(|e| format!("block {} warp {warp}: {e}", self.block))?;
                    }
                }
                _ => {
                    for thread in (0..self.threads).filter(|&t| active[t]) {
                        self.step(stmt, thread).map_err(|e| format!("block {} thread {thread}: {e}", self.block))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, stmt: &Stmt, thread: usize) -> Result<(), String> {
        match stmt {
            Stmt::Op { to, op, args } => {
                let bits = match op {
                    Op::Special(Special::Thread) => thread as u64,
                    Op::Special(Special::Block) => u64::from(self.block),
                    Op::Special(Special::Shared) => u64::from(shared::BASE),
                    Op::Param(n) => u64::from(*n + 1) * SPAN,
                    Op::Ballot => {
                        let first = thread / 32 * 32;
                        (0..32).fold(0, |bits, lane| bits | (self.value(args[0], first + lane) & 1) << lane)
                    }
                    Op::ShuffleXor(mask) => self.value(args[0], thread ^ *mask as usize),
                    op => {
                        let mut bits = [0; 3];
                        bits.iter_mut().zip(args).for_each(|(b, a)| *b = self.value(*a, thread));
                        alu::compute(*op, to.ty, &bits)
                    }
                };
                self.set(*to, thread, bits);
            }
            Stmt::Load { space, ty, to, address, offset } => {
                let address = self.address(*address, *offset, thread);
                for (i, r) in to.iter().enumerate() {
                    let bytes = match space {
                        Space::Shared => self.shared.read(address, i, *ty, to.len(), thread)?,
                        Space::Global => self.global.read(address, i, *ty, to.len(), thread)?,
                    };
                    let bits = u64::from_le_bytes(bytes);
                    let bits = match ty {
                        MemTy::S8 => u64::from(bits as u8 as i8 as i32 as u32),
                        MemTy::S16 => u64::from(bits as u16 as i16 as i32 as u32),
                        _ => bits,
                    };
                    self.set(*r, thread, bits);
                }
            }
            Stmt::Store { space, ty, from, address, offset } => {
                let address = self.address(*address, *offset, thread);
                for (i, o) in from.iter().enumerate() {
                    let bytes = self.value(*o, thread).to_le_bytes();
                    match space {
                        Space::Shared => self.shared.write(address, i, *ty, from.len(), thread, &bytes)?,
                        Space::Global => self.global.write(address, i, *ty, from.len(), thread, &bytes)?,
                    }
                }
            }
            Stmt::CopyAsync { bytes, to, offset, from, valid } => {
                let to = self.address(*to, *offset, thread);
                let valid = self.value(*valid, thread) as usize;
                let from = self.value(Operand::Reg(*from), thread);
                self.shared.issue(to, *bytes as usize, from, valid, thread, self.global)?;
            }
            Stmt::CommitCopies => self.shared.commit(thread),
            Stmt::WaitCopies(n) => self.shared.wait(*n as usize, thread, self.global)?,
            Stmt::Fence => self.global.fence(thread),
            Stmt::AtomicInc { to, address, limit } => {
                let address = self.value(Operand::Reg(*address), thread);
                let old = self.global.atomic_inc(address, *limit, thread)?;
                self.set(*to, thread, u64::from(old));
            }
            Stmt::If { .. } | Stmt::Barrier | Stmt::Loop { .. } | Stmt::LoadMatrix { .. } | Stmt::Mma { .. } => {}
        }
        Ok(())
    }

    fn address(&self, r: Reg, offset: i32, thread: usize) -> u64 {
        self.value(Operand::Reg(r), thread).wrapping_add(i64::from(offset) as u64)
    }
}
