//! Blocks that share the depth of a tile: each leaves its sums in memory, the last to come adds them in a fixed order.

use super::Unsupported;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Kernel, MemTy, Op, Ty};

/// Partial sums of the blocks that share a tile, in memory of the kernel's own.
pub struct Partial {
    pub split: u32,
    pub threads: u32,
    pub operands: u32,
}

impl Partial {
    /// Ends the kernel of some tiles: the sums of a tile's part are stored, after those of all parts were added where there are more.
    pub fn finish(
        &self,
        mut k: Writer,
        name: &str,
        sums: &[Val],
        (tile, part, thread): (Val, Val, Val),
        tiles: u32,
        mut store: impl FnMut(&mut Writer, &[Val]) -> Result<(), Unsupported>,
    ) -> Result<Kernel, Unsupported> {
        if self.split == 1 {
            store(&mut k, sums)?;
            return Ok(k.finish(name, self.operands, self.threads, tiles));
        }
        let last = self.meet(&mut k, sums, (tile, part, thread));
        let mut result = Ok(());
        k.when(last, |k| {
            let sums = self.sum(k, (sums.len(), sums[0].ty), (tile, thread));
            result = store(k, &sums);
        });
        result?;
        let blocks = tiles * self.split;
        let mut kernel = k.finish(name, self.operands + 2, self.threads, blocks);
        kernel.workspace = (blocks * self.threads) as usize * sums.len() * 4;
        kernel.zeroed = tiles as usize * 4;
        Ok(kernel)
    }

    /// The address of a thread's sums of one part; groups of four lie `threads` apart.
    fn address(&self, k: &mut Writer, (tile, part, thread): (Val, Val, Val), groups: u32) -> Val {
        let first = k.scaled(tile, i64::from(self.split));
        let first = k.add(first, part);
        let first = k.scaled(first, i64::from(groups * self.threads));
        let first = k.add(first, thread);
        k.element(self.operands, Val { ty: Ty::S32, ..first }, 16)
    }

    /// Writes this block's sums; whether it is the last of its tile.
    fn meet(&self, k: &mut Writer, sums: &[Val], at: (Val, Val, Val)) -> Val {
        let width = 4.min(sums.len());
        let to = self.address(k, at, (sums.len() / width) as u32);
        for (i, group) in sums.chunks(width).enumerate() {
            k.store_at(memory(group[0].ty), to, (i as u32 * self.threads * 16) as i32, group);
        }
        k.fence();
        let flag = k.shared(4);
        k.barrier();
        let zero = k.int(0, Ty::U32);
        let first = k.compare(Cmp::Eq, at.2, zero);
        k.when(first, |k| {
            let counter = k.element(self.operands + 1, Val { ty: Ty::S32, ..at.0 }, 4);
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
    fn sum(&self, k: &mut Writer, (n, ty): (usize, Ty), (tile, thread): (Val, Val)) -> Vec<Val> {
        let width = 4.min(n);
        let zero = if ty == Ty::F32 { k.float(0.0, ty) } else { k.int(0, ty) };
        let sums: Vec<Val> = (0..n).map(|_| k.variable(zero)).collect();
        k.repeat(self.split, |k, part| {
            let from = self.address(k, (tile, part, thread), (n / width) as u32);
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
