//! The emulator: the tree executed on the CPU, block by block. Warps are resumable: each runs some statements until another one's
//! turn comes, in an order that a seed names, and waits at barriers.
//!
//! It is strict where hardware is not. Accesses out of bounds, misaligned or of memory that was never written are errors.
//! So are two accesses to shared memory by different threads, one of them a write, without a barrier between, and reads of
//! what another block wrote without fences and an atomic operation between: orders that only barriers and fences make are
//! checked as such, whatever the interleaving happens to be.

mod alu;
mod global;
mod matrix;
mod order;
mod products;
mod shared;
mod tiles;
mod warp;

use crate::ptx::{Kernel, MemTy, Op, Operand, Reg, Space, Special, Stmt};
use global::{Global, SPAN};
use shared::Shared;
use warp::{State, Turns, Warp};
use wpk_plan::TensorMap;

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

/// Runs a kernel with its blocks, and the warps of each, in an order that `seed` names; 0 is their own. What it takes in parts it is given in
/// panels, as plans are.
///
/// # Errors
/// As for [`run`].
pub fn run_with(kernel: &Kernel, buffers: &mut [Vec<u8>], moment: Moment, seed: u64) -> Result<(), String> {
    let Some(parts) = &kernel.parts else { return launch(kernel, buffers, moment, seed) };
    let panels = buffers.get_mut(parts.argument as usize).ok_or("a kernel takes parts of no parameter")?;
    let made = parts.of(panels).ok_or("parts are made of whole panels")?;
    let panels = std::mem::replace(panels, made);
    let done = launch(kernel, buffers, moment, seed);
    buffers[parts.argument as usize] = panels;
    done
}

fn launch(kernel: &Kernel, buffers: &mut [Vec<u8>], moment: Moment, seed: u64) -> Result<(), String> {
    let mut order: Vec<u32> = (0..kernel.blocks / kernel.cluster).collect();
    let mut turns = Turns { state: seed };
    for i in (1..order.len()).rev().filter(|_| seed != 0) {
        order.swap(i, turns.below(i + 1));
    }
    let mut global = Global::new(buffers, any(&kernel.body, |s| matches!(s, Stmt::AtomicInc { .. })));
    let (registers, grouped, threads) = (count(&kernel.body) as usize + 1, kernel.groups(), kernel.threads as usize);
    let tells = any(&kernel.body, |s| matches!(s, Stmt::Arrive { .. }));
    for cluster in order {
        let numbers = cluster * kernel.cluster..(cluster + 1) * kernel.cluster;
        global.enter(numbers.clone(), threads);
        let block = |number| Block {
            number,
            shared: Shared::new(kernel.shared as usize, threads, moment, (grouped, tells)),
            registers: vec![vec![]; registers],
        };
        let warps = numbers.len() * threads / 32;
        let known = vec![vec![0; warps]; warps];
        let mut state = Cluster { global: &mut global, blocks: numbers.map(block).collect(), now: 0, threads, maps: &kernel.maps, known };
        state.run(&kernel.body, &mut turns)?;
        for block in &state.blocks {
            block.shared.finish().map_err(|e| format!("block {}: {e}", block.number))?;
        }
    }
    Ok(())
}

/// Whether a statement, or one within another, is of some kind.
fn any(body: &[Stmt], kind: fn(&Stmt) -> bool) -> bool {
    body.iter().any(|s| match s {
        Stmt::Loop { body, .. } | Stmt::If { then: body, .. } => any(body, kind),
        s => kind(s),
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

struct Block {
    number: u32,
    shared: Shared,
    /// The bits of each register by number and thread; registers of one class share numbers whatever the sign.
    registers: Vec<Vec<u64>>,
}

/// Blocks that run at once; most kernels have clusters of one.
struct Cluster<'a, 'b> {
    global: &'a mut Global<'b>,
    blocks: Vec<Block>,
    /// The block whose turn it is.
    now: usize,
    threads: usize,
    maps: &'a [TensorMap],
    /// What each of its warps knows of all.
    known: Vec<order::Clock>,
}

impl Cluster<'_, '_> {
    fn value(&self, o: Operand, thread: usize) -> u64 {
        match o {
            Operand::Imm(bits) => bits,
            Operand::Reg(r) => self.blocks[self.now].registers[r.id as usize].get(thread).copied().unwrap_or(0),
        }
    }

    fn set(&mut self, r: Reg, thread: usize, bits: u64) {
        let values = &mut self.blocks[self.now].registers[r.id as usize];
        if values.is_empty() {
            values.resize(self.threads, 0);
        }
        values[thread] = bits;
    }

    fn turn(&mut self, block: usize) {
        self.now = block;
        self.global.turn(block);
    }

    /// Runs all warps to their ends.
    fn run(&mut self, body: &[Stmt], turns: &mut Turns) -> Result<(), String> {
        let places = (0..self.blocks.len()).flat_map(|b| (0..self.threads / 32).map(move |w| (b, 32 * w)));
        let mut warps: Vec<Warp<'_>> = places.map(|place| Warp::new(place, body)).collect();
        loop {
            self.wake(&mut warps)?;
            let ready: Vec<usize> = (0..warps.len()).filter(|&w| warps[w].state == State::Ready).collect();
            if !ready.is_empty() {
                let (chosen, statements) = turns.next(&ready);
                self.turn(warps[chosen].block);
                for _ in 0..statements {
                    self.advance(&mut warps[chosen]).map_err(|e| format!("block {} {e}", self.blocks[self.now].number))?;
                    if warps[chosen].state != State::Ready {
                        break;
                    }
                }
                continue;
            }
            if warps.iter().all(|w| w.state == State::Done) {
                return match warps.iter().find(|w| w.arrivals != w.waits) {
                    Some(w) => Err(format!("block {}: an arrival at the cluster's barrier without a wait", self.blocks[w.block].number)),
                    None => Ok(()),
                };
            }
            let together = |w: &[Warp<'_>]| w.iter().all(|w| w.state == State::Waiting);
            let Some(block) = warps.chunks(self.threads / 32).position(together) else {
                let stuck = warps.iter().find(|w| !matches!(w.state, State::Done | State::Waiting));
                let what = stuck.map_or("a barrier that not all threads reach", |_| "a wait that does not end");
                let block = stuck.or(warps.first()).map_or(0, |w| w.block);
                return Err(format!("block {}: {what}", self.blocks[block].number));
            };
            self.turn(block);
            self.blocks[block].shared.barrier();
            self.global.barrier();
            let own = block * self.threads / 32..(block + 1) * self.threads / 32;
            warps[own].iter_mut().for_each(|w| w.state = State::Ready);
        }
    }

    /// Warps whose waits for bytes or for the cluster have ended can run again.
    fn wake(&mut self, warps: &mut [Warp<'_>]) -> Result<(), String> {
        let come = warps.iter().filter(|w| w.state != State::Done).map(|w| w.arrivals).min().unwrap_or(0);
        for warp in warps {
            match warp.state {
                State::Cluster(arrival) if come >= arrival => (warp.state, warp.waits) = (State::Ready, arrival),
                State::Bytes(address, parity) => {
                    self.turn(warp.block);
                    if self.phase_ended(address, parity).map_err(|e| format!("block {}: {e}", self.blocks[self.now].number))? {
                        warp.state = State::Ready;
                        self.learn(address, warp.first);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// One statement of a warp.
    fn advance<'k>(&mut self, warp: &mut Warp<'k>) -> Result<(), String> {
        let Some((stmt, mask, again)) = warp.next() else { return Ok(()) };
        if let Some((counter, round)) = again {
            warp.lanes(mask).for_each(|t| self.set(counter, t, u64::from(round)));
        }
        match stmt {
            Stmt::If { condition, then } => {
                let holds = |t: &usize| self.value(Operand::Reg(*condition), *t) != 0;
                let inner = warp.lanes(mask).filter(holds).fold(0, |m, t| m | 1 << (t - warp.first));
                warp.enter(then, inner, None);
            }
            Stmt::Loop { counter, count, body, .. } => {
                let mut counts = warp.lanes(mask).map(|t| self.value(*count, t));
                let rounds = counts.next().unwrap_or(0);
                if counts.any(|n| n != rounds) {
                    return Err(format!("warp {}: threads disagree on a loop's rounds", warp.first / 32));
                }
                warp.lanes(mask).for_each(|t| self.set(*counter, t, 0));
                if rounds > 0 {
                    warp.enter(body, mask, Some((*counter, rounds as u32)));
                }
            }
            Stmt::Barrier
            | Stmt::LoadMatrix { .. }
            | Stmt::Mma { .. }
            | Stmt::GroupMma { .. }
            | Stmt::AwaitBytes { .. }
            | Stmt::ArriveCluster
            | Stmt::WaitCluster
                if mask != u32::MAX =>
            {
                return Err(format!("warp {}: {stmt:?}, which not all threads reach", warp.first / 32));
            }
            Stmt::Barrier => warp.state = State::Waiting,
            Stmt::AwaitBytes { address, parity } => {
                let (address, parity) = (self.value(Operand::Reg(*address), warp.first), self.value(*parity, warp.first));
                warp.state = State::Bytes(address, parity & 1 != 0);
            }
            Stmt::ArriveCluster => warp.arrivals += 1,
            Stmt::WaitCluster => warp.state = State::Cluster(warp.waits + 1),
            Stmt::CopyTile { map, at, window, to, barrier, everywhere } => {
                for t in warp.lanes(mask) {
                    let signed = |o: &Operand| i64::from(self.value(*o, t) as i32);
                    let at = (at.iter().map(signed).collect(), window.as_ref().map(|w| w.each_ref().map(signed)));
                    let [map, to, barrier] = [map, to, barrier].map(|r| self.value(Operand::Reg(*r), t));
                    let tile = self.tile(map, at, to, t);
                    tile.and_then(|tile| self.copy_tile(tile, barrier, *everywhere, warp.waits)).map_err(|e| format!("thread {t}: {e}"))?;
                }
            }
            Stmt::Send { from, to, offset, barrier } => {
                for t in warp.lanes(mask) {
                    let (to, barrier) = (self.address(*to, *offset, t), self.value(Operand::Reg(*barrier), t));
                    let bytes = from.iter().flat_map(|o| (self.value(*o, t) as u32).to_le_bytes()).collect();
                    self.send(bytes, to, barrier, warp.waits).map_err(|e| format!("thread {t}: {e}"))?;
                }
            }
            Stmt::CommitProducts => self.blocks[self.now].shared.products.commit(warp.first / 32),
            Stmt::WaitProducts(n) => self.blocks[self.now].shared.wait_products(*n as usize, warp.first / 32, warp.arrivals),
            Stmt::LoadMatrix { .. } | Stmt::Mma { .. } | Stmt::GroupMma { .. } => {
                self.matrix(stmt, warp.first).map_err(|e| format!("warp {}: {e}", warp.first / 32))?;
            }
            _ => {
                for thread in warp.lanes(mask) {
                    self.step(stmt, thread).map_err(|e| format!("thread {thread}: {e}"))?;
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
                    Op::Special(Special::Block) => u64::from(self.blocks[self.now].number),
                    Op::Special(Special::Shared) => u64::from(shared::BASE) | (self.now as u64) << shared::RANK,
                    Op::Param(n) => u64::from(*n + 1) * SPAN,
                    Op::Ballot => {
                        let first = thread / 32 * 32;
                        (0..32).fold(0, |bits, lane| bits | (self.value(args[0], first + lane) & 1) << lane)
                    }
                    Op::Peer => shared::within(self.value(args[0], thread)) | self.value(args[1], thread) << shared::RANK,
                    // Nothing says which.
                    Op::Elect => u64::from(thread % 32 == 31),
                    Op::Uniform => {
                        let [first, own] = [thread / 32 * 32, thread].map(|t| self.value(args[0], t));
                        if first != own {
                            return Err(format!("{own} is not {first}, which the warp's first lane has"));
                        }
                        own
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
                        Space::Shared => self.blocks[self.now].shared.read(address, i, *ty, to.len(), thread)?,
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
                        Space::Shared => self.blocks[self.now].shared.write(address, i, *ty, from.len(), thread, &bytes)?,
                        Space::Global => self.global.write(address, i, *ty, from.len(), thread, &bytes)?,
                    }
                }
            }
            Stmt::CopyAsync { bytes, to, offset, from, valid } => {
                let to = self.address(*to, *offset, thread);
                let valid = self.value(*valid, thread) as usize;
                let from = self.value(Operand::Reg(*from), thread);
                self.blocks[self.now].shared.issue(to, *bytes as usize, from, valid, thread, self.global)?;
            }
            Stmt::CommitCopies => self.blocks[self.now].shared.commit(thread),
            Stmt::WaitCopies(n) => self.blocks[self.now].shared.wait(*n as usize, thread, self.global)?,
            Stmt::Fence => self.global.fence(thread),
            Stmt::AtomicInc { to, address, limit } => {
                let address = self.value(Operand::Reg(*address), thread);
                let old = self.global.atomic_inc(address, *limit, thread)?;
                self.set(*to, thread, u64::from(old));
            }
            // A launch by itself depends on nothing; what may be read before the wait is the verifier's.
            Stmt::LaunchDependents | Stmt::WaitDependencies => {}
            Stmt::FenceProxy => self.blocks[self.now].shared.fence_proxy(thread),
            // What products do to registers before they were waited for is the verifier's too.
            Stmt::FenceProducts => {}
            Stmt::InitBarrier { address, count } => {
                let address = self.value(Operand::Reg(*address), thread);
                self.blocks[self.now].shared.init_barrier(address, *count, thread)?;
            }
            Stmt::FenceBarriers => self.blocks[self.now].shared.fence_barriers(thread),
            Stmt::ExpectBytes { address, bytes } => {
                let address = self.value(Operand::Reg(*address), thread);
                self.blocks[self.now].shared.expect_bytes(address, *bytes)?;
            }
            Stmt::Arrive { address } => {
                let address = self.value(Operand::Reg(*address), thread);
                self.come(address, thread)?;
            }
            Stmt::AwaitBytes { .. } | Stmt::CopyTile { .. } | Stmt::Send { .. } | Stmt::ArriveCluster | Stmt::WaitCluster => {}
            Stmt::If { .. } | Stmt::Loop { .. } | Stmt::Barrier => {}
            Stmt::LoadMatrix { .. } | Stmt::Mma { .. } | Stmt::GroupMma { .. } | Stmt::CommitProducts | Stmt::WaitProducts(_) => {}
        }
        Ok(())
    }

    fn address(&self, r: Reg, offset: i32, thread: usize) -> u64 {
        self.value(Operand::Reg(r), thread).wrapping_add(i64::from(offset) as u64)
    }
}
