//! Products of warpgroups under way: what they read of shared memory may not be written before they were waited for.

use super::shared::{Shared, Touch};
use std::collections::VecDeque;
use std::ops::Range;

/// Bytes that each product of a group reads.
type Group = Vec<Range<usize>>;

/// What the products of a warp read, by group, and what threads wrote that products cannot see yet.
#[derive(Default)]
pub struct Products {
    /// Whether there are any in the kernel.
    pub any: bool,
    /// By warp, the closed groups, oldest first, and the open one.
    groups: Vec<(VecDeque<Group>, Group)>,
    /// By thread, what it wrote since its last fence.
    unseen: Vec<Vec<Range<usize>>>,
}

impl Products {
    pub fn new(any: bool, threads: usize) -> Self {
        let unseen = if any { vec![vec![]; threads] } else { vec![] };
        Self { any, groups: (0..threads / 32).map(|_| Default::default()).collect(), unseen }
    }

    /// A thread wrote some bytes.
    pub fn wrote(&mut self, thread: usize, bytes: Range<usize>) {
        if self.any {
            self.unseen[thread].push(bytes);
        }
    }

    pub fn commit(&mut self, warp: usize) {
        let (closed, open) = &mut self.groups[warp];
        closed.push_back(std::mem::take(open));
    }
}

impl Shared {
    /// What a thread wrote is visible to products from here on.
    pub fn fence_proxy(&mut self, thread: usize) {
        for bytes in self.products.unseen.get_mut(thread).map(std::mem::take).unwrap_or_default() {
            self.touched[bytes].iter_mut().for_each(|t| t.seen = true);
        }
    }

    /// Bytes that a product of a warp reads from now until it is waited for.
    pub fn product(&mut self, address: u64, n: usize, warp: usize) -> Result<&[u8], String> {
        let at = self.place(address, n)?;
        for b in at..at + n {
            let touch = &mut self.touched[b];
            let fault = match touch {
                t if t.pending => "while it is copied to",
                t if !t.written => "before it is written",
                t if t.writer.is_some() => "without a barrier after it was written",
                t if !t.seen => "without a fence between the proxies after it was written",
                _ => {
                    touch.products += 1;
                    continue;
                }
            };
            return Err(format!("shared byte {b} is read by a product {fault}"));
        }
        self.products.groups[warp].1.push(at..at + n);
        Ok(&self.bytes[at..at + n])
    }

    /// Ends the oldest groups of a warp's products until `n` are left; it arrived so often at the cluster's barrier before.
    pub fn wait_products(&mut self, n: usize, warp: usize, arrivals: u32) {
        while self.products.groups[warp].0.len() > n {
            for bytes in self.products.groups[warp].0.pop_front().unwrap_or_default() {
                // Others may write once a barrier told them.
                let end = |t: &mut Touch| (t.products, t.reader, t.ended) = (t.products - 1, Some(usize::MAX), arrivals + 1);
                self.touched[bytes.clone()].iter_mut().for_each(end);
                self.reads.read(warp, bytes);
            }
        }
    }
}
