//! Blocks that share the depth of a tile. In a cluster each adds a share of the sums, which all send to its shared memory;
//! where they are no cluster each leaves its sums in memory, and the last to come adds them. The order is fixed in both.

use super::Unsupported;
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Kernel, MemTy, Op, Ty};

/// How the sums of a warp are shared out among the blocks of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    pub rows: u32,
    pub columns: u32,
}

impl Shares {
    /// Everything to one.
    pub const ALL: Self = Self { rows: 1, columns: 1 };

    /// To so many blocks, of a warp's rows and columns; `None` where they are no cluster, since there is no room for the sums of a tile beside
    /// so many bytes of shared memory, or a warp's cannot be shared out.
    pub fn of(split: u32, (rows, columns): (u32, u32), tile: [u32; 2], (shared, arch): (u32, &Arch)) -> Option<Self> {
        // Rows first: what a block writes of each is longer.
        let by_rows = split.min(1 << (rows / 8).trailing_zeros());
        let shares = Self { rows: by_rows, columns: split / by_rows };
        // Lanes exchange the sums of up to four groups of eight columns.
        let groups = columns / 8 / shares.columns;
        let whole = (columns / 8).is_multiple_of(shares.columns) && (groups.is_multiple_of(4) || groups.is_power_of_two());
        let fits = (shared + Meeting::bytes(tile)) as usize <= arch.shared;
        (arch.clusters > 0 && matches!(split, 2 | 4 | 8) && whole && fits).then_some(shares)
    }
}

/// Partial sums of the blocks that share a tile.
pub struct Partial {
    pub split: u32,
    pub threads: u32,
    pub operands: u32,
    pub tiles: u32,
    pub tile: Val,
    pub part: Val,
    pub thread: Val,
    /// Where they are a cluster: how it shares out the sums, and where they come together.
    pub cluster: Option<(Shares, Meeting)>,
}

/// Shared memory for a block's share of the sums of its cluster, and the barrier that knows when they came.
#[derive(Clone, Copy)]
pub struct Meeting {
    sums: Val,
    barrier: Val,
}

impl Meeting {
    /// What it takes for a tile, with the memory that kernels have beside.
    pub fn bytes([bm, bn]: [u32; 2]) -> u32 {
        4 * bm * bn + 64
    }

    /// The same where there is a meeting.
    pub fn beside(shares: Option<Shares>, tile: [u32; 2]) -> u32 {
        shares.map_or(0, |_| Self::bytes(tile))
    }

    /// Prepares to receive a block's share of a tile's sums from every block, which together are as many as the tile's.
    pub fn prepare(k: &mut Writer, thread: Val, [bm, bn]: [u32; 2]) -> Self {
        let bytes = 4 * bm * bn;
        let (sums, barrier) = (k.shared(bytes), k.shared(8));
        let zero = k.int(0, Ty::U32);
        let first = k.compare(Cmp::Eq, thread, zero);
        k.when(first, |k| {
            k.init_barrier(barrier, 1);
            k.fence_barriers();
            k.expect_bytes(barrier, bytes);
        });
        k.arrive_cluster();
        Self { sums, barrier }
    }
}

impl Partial {
    /// Ends the kernel of some tiles: the sums of a tile's part are stored, after those of all parts were added where there are more.
    pub fn finish(
        &self,
        mut k: Writer,
        name: &str,
        sums: &[Val],
        mut store: impl FnMut(&mut Writer, &[Val]) -> Result<(), Unsupported>,
    ) -> Result<Kernel, Unsupported> {
        if self.split == 1 {
            store(&mut k, sums)?;
            return Ok(k.finish(name, self.operands, self.threads, self.tiles));
        }
        let last = self.meet(&mut k, sums);
        let mut result = Ok(());
        k.when(last, |k| {
            let sums = self.sum(k, (sums.len(), sums[0].ty));
            result = store(k, &sums);
        });
        result?;
        let blocks = self.tiles * self.split;
        let mut kernel = k.finish(name, self.operands + 2, self.threads, blocks);
        kernel.workspace = (blocks * self.threads) as usize * sums.len() * 4;
        kernel.zeroed = self.tiles as usize * 4;
        Ok(kernel)
    }

    /// The sums of the block's share, those of all parts in their order; `sums` are a thread's own by share.
    pub fn meet_in_cluster(&self, k: &mut Writer, meeting: Meeting, sums: &[Val]) -> Vec<Val> {
        let share = sums.len() / self.split as usize;
        let (ty, width) = (sums[0].ty, 4.min(share));
        // By part, then by group of sums; a thread's own lie side by side.
        let apart = 4 * width as u32 * self.threads;
        let part = apart * (share / width) as u32;
        let own = k.scaled(self.thread, 4 * width as i64);
        let own = k.add(meeting.sums, own);
        let moved = k.scaled(self.part, i64::from(part));
        let to = k.add(own, moved);
        // Every block has prepared its barrier.
        k.wait_cluster();
        for (block, sums) in (0..).zip(sums.chunks(share)) {
            let (to, barrier) = (k.peer(to, block), k.peer(meeting.barrier, block));
            for (i, group) in (0..).zip(sums.chunks(width)) {
                k.send(to, (i * apart) as i32, group, barrier);
            }
        }
        let zero = k.int(0, Ty::U32);
        k.await_bytes(meeting.barrier, zero);
        let of_part = |k: &mut Writer, n: u32| -> Vec<Val> {
            let at = |i: u32| (n * part + i * apart) as i32;
            (0..(share / width) as u32).flat_map(|i| k.load_at(memory(ty), ty, own, at(i), width)).collect()
        };
        let first = of_part(k, 0);
        (1..self.split).fold(first, |sums, n| {
            let more = of_part(k, n);
            sums.iter().zip(more).map(|(&sum, x)| k.add(sum, x)).collect()
        })
    }

    /// The address of a thread's sums of one part; groups of four lie `threads` apart.
    fn address(&self, k: &mut Writer, part: Val, groups: u32) -> Val {
        let first = k.scaled(self.tile, i64::from(self.split));
        let first = k.add(first, part);
        let first = k.scaled(first, i64::from(groups * self.threads));
        let first = k.add(first, self.thread);
        k.element(self.operands, Val { ty: Ty::S32, ..first }, 16)
    }

    /// Writes this block's sums; whether it is the last of its tile.
    fn meet(&self, k: &mut Writer, sums: &[Val]) -> Val {
        let width = 4.min(sums.len());
        let to = self.address(k, self.part, (sums.len() / width) as u32);
        for (i, group) in sums.chunks(width).enumerate() {
            k.store_at(memory(group[0].ty), to, (i as u32 * self.threads * 16) as i32, group);
        }
        k.fence();
        let flag = k.shared(4);
        k.barrier();
        let zero = k.int(0, Ty::U32);
        let first = k.compare(Cmp::Eq, self.thread, zero);
        k.when(first, |k| {
            let counter = k.element(self.operands + 1, Val { ty: Ty::S32, ..self.tile }, 4);
            let before = k.atomic_inc(counter, self.split - 1);
            k.store(MemTy::B32, flag, &[before]);
        });
        k.barrier();
        let before = k.load(MemTy::B32, Ty::U32, flag, 1)[0];
        k.fence();
        let last = k.int(i64::from(self.split - 1), Ty::U32);
        k.compare(Cmp::Eq, before, last)
    }

    /// The sums of all parts, in their order.
    fn sum(&self, k: &mut Writer, (n, ty): (usize, Ty)) -> Vec<Val> {
        let width = 4.min(n);
        let zero = if ty == Ty::F32 { k.float(0.0, ty) } else { k.int(0, ty) };
        let sums: Vec<Val> = (0..n).map(|_| k.variable(zero)).collect();
        k.repeat(self.split, |k, part| {
            let from = self.address(k, part, (n / width) as u32);
            for (i, group) in sums.chunks(width).enumerate() {
                let loaded = k.load_at(memory(ty), ty, from, (i as u32 * self.threads * 16) as i32, width);
                for (&sum, x) in group.iter().zip(loaded) {
                    k.update(sum, Op::Add, &[sum, x]);
                }
            }
        });
        sums
    }
}

/// How sums of a type lie in memory.
fn memory(ty: Ty) -> MemTy {
    if ty == Ty::F32 { MemTy::F32 } else { MemTy::B32 }
}
