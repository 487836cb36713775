//! A block's shared memory, with who touched each byte since the last barrier, and the copies under way.

use super::Moment;
use super::global::Global;
use super::order::Reads;
use super::products::Products;
use super::tiles::Barriers;
use crate::ptx::MemTy;
use std::collections::VecDeque;

/// Where shared memory begins: not at zero, as on hardware that keeps the first bytes for itself.
pub const BASE: u32 = 1024;
/// The lowest bit of an address that tells the block's number in its cluster.
pub const RANK: u32 = 24;

/// An address without the block's number, as it is in every block of the cluster.
pub(super) fn within(address: u64) -> u64 {
    address & ((1 << RANK) - 1)
}

#[derive(Clone, Copy, Default)]
pub(super) struct Touch {
    /// Whether it was ever written.
    pub written: bool,
    /// Whether a copy into it is under way.
    pub pending: bool,
    pub writer: Option<usize>,
    /// The reader, or `usize::MAX` for several.
    pub reader: Option<usize>,
    /// Products under way that read it.
    pub products: u32,
    /// Whether products see what was written last.
    pub seen: bool,
    /// The arrival at the cluster's barrier behind the last product that read it.
    pub ended: u32,
}

/// A copy that was issued and not waited for.
struct Copy {
    to: usize,
    bytes: usize,
    from: u64,
    valid: usize,
    /// What was read when it was issued, in that mode.
    early: Option<Vec<u8>>,
}

pub struct Shared {
    pub(super) bytes: Vec<u8>,
    pub(super) touched: Vec<Touch>,
    pub(super) products: Products,
    pub(super) barriers: Barriers,
    pub(super) reads: Reads,
    /// By thread, the closed groups of copies, oldest first, and the open one.
    groups: Vec<(VecDeque<Vec<Copy>>, Vec<Copy>)>,
    pub(super) moment: Moment,
}

impl Shared {
    pub fn new(bytes: usize, threads: usize, moment: Moment, (grouped, tells): (bool, bool)) -> Self {
        let groups = (0..threads).map(|_| Default::default()).collect();
        let (products, barriers) = (Products::new(grouped, threads), Barriers::default());
        let reads = if tells { Reads::new(threads / 32, bytes) } else { Reads::default() };
        Self { bytes: vec![0; bytes], touched: vec![Touch::default(); bytes], products, barriers, reads, groups, moment }
    }

    pub fn barrier(&mut self) {
        self.touched.iter_mut().for_each(|t| (t.writer, t.reader) = (None, None));
    }

    /// The byte of an access, checked.
    pub(super) fn place(&self, address: u64, bytes: usize) -> Result<usize, String> {
        let at = (within(address) as u32).wrapping_sub(BASE) as usize;
        if at + bytes > self.bytes.len() || !at.is_multiple_of(bytes) {
            return Err(format!("{bytes} bytes at {at} of {} bytes of shared memory", self.bytes.len()));
        }
        Ok(at)
    }

    pub fn read(&mut self, address: u64, i: usize, ty: MemTy, n: usize, thread: usize) -> Result<[u8; 8], String> {
        let at = self.place(address, n * ty.bytes())? + i * ty.bytes();
        for b in at..at + ty.bytes() {
            let touch = &mut self.touched[b];
            if touch.pending {
                return Err(format!("shared byte {b} is read while it is copied to"));
            }
            if !touch.written {
                return Err(format!("shared byte {b} is read before it is written"));
            }
            if touch.writer.is_some_and(|w| w != thread) {
                return Err(format!("shared byte {b} is read without a barrier after thread {:?} wrote it", touch.writer));
            }
            touch.reader = Some(if touch.reader.is_none_or(|r| r == thread) { thread } else { usize::MAX });
        }
        self.reads.read(thread / 32, at..at + ty.bytes());
        let mut bytes = [0; 8];
        bytes[..ty.bytes()].copy_from_slice(&self.bytes[at..at + ty.bytes()]);
        Ok(bytes)
    }

    /// Whether a thread may write a byte now.
    fn claim(&mut self, b: usize, thread: usize) -> Result<&mut Touch, String> {
        let touch = &mut self.touched[b];
        let other = |t: Option<usize>| t.is_some_and(|t| t != thread);
        if touch.products > 0 {
            return Err(format!("shared byte {b} is written while a product reads it"));
        }
        if touch.pending || other(touch.writer) || other(touch.reader) {
            return Err(format!("shared byte {b} is written while another thread uses it"));
        }
        Ok(touch)
    }

    pub fn write(&mut self, address: u64, i: usize, ty: MemTy, n: usize, thread: usize, bytes: &[u8]) -> Result<(), String> {
        let at = self.place(address, n * ty.bytes())? + i * ty.bytes();
        for b in at..at + ty.bytes() {
            let touch = self.claim(b, thread)?;
            (touch.written, touch.writer, touch.seen) = (true, Some(thread), false);
        }
        self.products.wrote(thread, at..at + ty.bytes());
        self.bytes[at..at + ty.bytes()].copy_from_slice(&bytes[..ty.bytes()]);
        Ok(())
    }

    pub fn issue(&mut self, to: u64, bytes: usize, from: u64, valid: usize, thread: usize, global: &mut Global<'_>) -> Result<(), String> {
        let to = self.place(to, bytes)?;
        if valid > bytes {
            return Err(format!("a copy of {bytes} bytes reads {valid}"));
        }
        for b in to..to + bytes {
            self.claim(b, thread)?.pending = true;
        }
        let early = if self.moment == Moment::Earliest { Some(global.bytes(from, valid, thread)?) } else { None };
        self.groups[thread].1.push(Copy { to, bytes, from, valid, early });
        Ok(())
    }

    pub fn commit(&mut self, thread: usize) {
        let (closed, open) = &mut self.groups[thread];
        closed.push_back(std::mem::take(open));
    }

    pub fn wait(&mut self, n: usize, thread: usize, global: &mut Global<'_>) -> Result<(), String> {
        while self.groups[thread].0.len() > n {
            for copy in self.groups[thread].0.pop_front().unwrap_or_default() {
                let mut bytes = match copy.early {
                    Some(bytes) => bytes,
                    None => global.bytes(copy.from, copy.valid, thread)?,
                };
                bytes.resize(copy.bytes, 0);
                self.bytes[copy.to..copy.to + copy.bytes].copy_from_slice(&bytes);
                for touch in &mut self.touched[copy.to..copy.to + copy.bytes] {
                    (touch.written, touch.pending, touch.writer, touch.seen) = (true, false, Some(thread), false);
                }
                self.products.wrote(thread, copy.to..copy.to + copy.bytes);
            }
        }
        Ok(())
    }

    /// A block may not end while copies that were not empty are under way.
    pub fn finish(&self) -> Result<(), String> {
        let pending = self.touched.iter().filter(|t| t.pending).count();
        let read = self.touched.iter().filter(|t| t.products > 0).count();
        match (pending, read) {
            (0, 0) => Ok(()),
            (0, _) => Err(format!("{read} bytes are still read by products at the end")),
            _ => Err(format!("{pending} bytes are still being copied at the end")),
        }
    }
}
