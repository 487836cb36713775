//! What warps know of each other's reads of shared memory: who has waited for a barrier knows what those that came to it did before
//! (vector clocks: Mattern, "Virtual Time and Global States of Distributed Systems", 1989).

use std::ops::Range;

/// By warp of a cluster, how often it had come to barriers, as far as someone knows.
pub type Clock = Vec<u32>;

/// Later of both, warp by warp.
pub fn merge(into: &mut Clock, other: &Clock) {
    into.resize(into.len().max(other.len()), 0);
    into.iter_mut().zip(other).for_each(|(a, b)| *a = (*a).max(*b));
}

/// The reads of a block's shared memory; empty for kernels whose threads never come to barriers to tell of them.
#[derive(Default)]
pub struct Reads {
    /// By warp, how often it came to barriers.
    came: Vec<u32>,
    /// By warp and byte, its arrival that tells of its last read.
    told: Vec<Vec<u32>>,
}

impl Reads {
    pub fn new(warps: usize, bytes: usize) -> Self {
        Self { came: vec![0; warps], told: vec![vec![0; bytes]; warps] }
    }

    pub fn read(&mut self, warp: usize, bytes: Range<usize>) {
        if let Some(told) = self.told.get_mut(warp) {
            told[bytes].fill(self.came[warp] + 1);
        }
    }

    /// A warp comes to a barrier; how often it did.
    pub fn come(&mut self, warp: usize) -> u32 {
        self.came[warp] += 1;
        self.came[warp]
    }

    /// Whether who knows so much of the block's warps knows that all reads of a byte are over.
    pub fn over(&self, known: &[u32], byte: usize) -> bool {
        !self.told.is_empty() && self.told.iter().zip(known).all(|(told, known)| told[byte] <= *known)
    }
}
