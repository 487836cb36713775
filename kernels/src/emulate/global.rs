//! Global memory: one buffer per parameter, bounds and alignment checked, and what one block may see of another.
//!
//! A write becomes visible to other blocks once its thread fenced it and a thread of its block, ordered behind by a barrier,
//! executed an atomic operation; they see it after an atomic operation of their own and a fence.

use crate::ptx::MemTy;
use std::collections::BTreeMap;

/// Addresses of one buffer begin at its number times this.
pub const SPAN: u64 = 1 << 40;

/// Buffer and word of a write.
type Place = (usize, usize);

/// Who wrote last, and whether other blocks may know.
#[derive(Clone, Copy)]
struct Write {
    block: u32,
    published: bool,
}

/// How far a thread's writes are on their way to other blocks.
#[derive(Default)]
struct Outbox {
    /// Written since the last fence, with the barriers that the block had passed.
    recent: Vec<(Place, u32)>,
    /// Before it.
    fenced: Vec<(Place, u32)>,
    /// Whether the thread fenced after an atomic operation of its block.
    acquired: bool,
}

/// A block that runs.
#[derive(Default)]
struct View {
    block: u32,
    epoch: u32,
    /// Whether a thread of this block executed an atomic operation, and in which epoch.
    atomic: Option<u32>,
    /// By thread.
    outboxes: Vec<Outbox>,
}

pub struct Global<'a> {
    buffers: &'a mut [Vec<u8>],
    /// The last write by place, where blocks may communicate at all.
    writes: Option<BTreeMap<Place, Write>>,
    /// The blocks of the cluster that runs, and the one whose turn it is.
    views: Vec<View>,
    turn: usize,
}

impl<'a> Global<'a> {
    pub fn new(buffers: &'a mut [Vec<u8>], communicates: bool) -> Self {
        let writes = communicates.then(BTreeMap::new);
        Self { buffers, writes, views: vec![], turn: 0 }
    }

    /// The blocks of a cluster begin.
    pub fn enter(&mut self, blocks: std::ops::Range<u32>, threads: usize) {
        let view = |block| View { block, outboxes: (0..threads).map(|_| Outbox::default()).collect(), ..View::default() };
        self.views = blocks.map(view).collect();
    }

    /// What is accessed next one of them accesses.
    pub fn turn(&mut self, n: usize) {
        self.turn = n;
    }

    pub fn barrier(&mut self) {
        self.views[self.turn].epoch += 1;
    }

    pub fn fence(&mut self, thread: usize) {
        let view = &mut self.views[self.turn];
        let outbox = &mut view.outboxes[thread];
        // What the atomic operation saw reaches the other threads by a barrier.
        outbox.acquired = view.atomic.is_some_and(|epoch| epoch < view.epoch);
        outbox.fenced.append(&mut outbox.recent);
    }

    pub fn atomic_inc(&mut self, address: u64, limit: u32, thread: usize) -> Result<u32, String> {
        let (buffer, at) = self.place(address, 4)?;
        let view = &mut self.views[self.turn];
        let epoch = view.epoch;
        for (other, outbox) in view.outboxes.iter_mut().enumerate() {
            let ordered = |e: u32| other == thread || e < epoch;
            for (place, _) in outbox.fenced.iter().filter(|w| ordered(w.1)) {
                if let Some(write) = self.writes.as_mut().and_then(|w| w.get_mut(place)) {
                    write.published = true;
                }
            }
            outbox.fenced.retain(|w| !ordered(w.1));
        }
        view.atomic = Some(epoch);
        let bytes = &mut self.buffers[buffer][at..at + 4];
        let old = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        bytes.copy_from_slice(&if old >= limit { 0 } else { old + 1 }.to_le_bytes());
        Ok(old)
    }

    /// The buffer and byte of an access, checked.
    fn place(&self, address: u64, bytes: usize) -> Result<(usize, usize), String> {
        let (buffer, at) = ((address / SPAN).wrapping_sub(1) as usize, (address % SPAN) as usize);
        let len = self.buffers.get(buffer).map(Vec::len).ok_or_else(|| format!("address {address:#x} is in no buffer"))?;
        if at + bytes > len {
            return Err(format!("{bytes} bytes at {at} leave buffer {buffer} of {len}"));
        }
        if at % bytes != 0 {
            return Err(format!("{bytes} bytes at {at} of buffer {buffer} are not aligned"));
        }
        Ok((buffer, at))
    }

    /// Bytes that an asynchronous copy reads; none have no address.
    pub fn bytes(&mut self, address: u64, n: usize, thread: usize) -> Result<Vec<u8>, String> {
        if n == 0 {
            return Ok(vec![]);
        }
        let (buffer, at) = self.place(address, n)?;
        self.visible(buffer, at..at + n, thread)?;
        Ok(self.buffers[buffer][at..at + n].to_vec())
    }

    pub fn read(&mut self, address: u64, i: usize, ty: MemTy, n: usize, thread: usize) -> Result<[u8; 8], String> {
        let (buffer, at) = self.place(address, n * ty.bytes())?;
        let at = at + i * ty.bytes();
        self.visible(buffer, at..at + ty.bytes(), thread)?;
        let mut bytes = [0; 8];
        bytes[..ty.bytes()].copy_from_slice(&self.buffers[buffer][at..at + ty.bytes()]);
        Ok(bytes)
    }

    fn visible(&self, buffer: usize, bytes: std::ops::Range<usize>, thread: usize) -> Result<(), String> {
        let Some(writes) = &self.writes else { return Ok(()) };
        let view = &self.views[self.turn];
        let hidden = |w: &&Write| w.block != view.block && !(w.published && view.outboxes[thread].acquired);
        match words(bytes).find_map(|word| writes.get(&(buffer, word)).filter(hidden)) {
            Some(w) => Err(format!("buffer {buffer} is read without an order after block {} wrote it", w.block)),
            None => Ok(()),
        }
    }

    pub fn write(&mut self, address: u64, i: usize, ty: MemTy, n: usize, thread: usize, bytes: &[u8]) -> Result<(), String> {
        let (buffer, at) = self.place(address, n * ty.bytes())?;
        let at = at + i * ty.bytes();
        self.buffers[buffer][at..at + ty.bytes()].copy_from_slice(&bytes[..ty.bytes()]);
        if let Some(writes) = &mut self.writes {
            for word in words(at..at + ty.bytes()) {
                let view = &mut self.views[self.turn];
                writes.insert((buffer, word), Write { block: view.block, published: false });
                view.outboxes[thread].recent.push(((buffer, word), view.epoch));
            }
        }
        Ok(())
    }
}

/// The words that some bytes lie in.
fn words(bytes: std::ops::Range<usize>) -> std::ops::Range<usize> {
    bytes.start / 4..bytes.end.div_ceil(4)
}
