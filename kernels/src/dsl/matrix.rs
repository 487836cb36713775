//! What whole warps and warpgroups do: loads of matrices and products on tensor cores.

use super::{Val, Writer};
use crate::ptx::{Factor, GroupRows, Operand, Reg, Stmt, Ty};

impl Writer {
    /// Matrices of 8 rows by 16 bytes in shared memory, one per register: see [`Stmt::LoadMatrix`].
    pub fn load_matrix(&mut self, address: Val, offset: i32, n: usize, transposed: bool) -> Vec<Val> {
        let Operand::Reg(address) = address.operand else { return vec![] };
        let to: Vec<Reg> = (0..n).map(|_| self.fresh(Ty::U32)).collect();
        self.say(Stmt::LoadMatrix { to: to.clone(), address, offset, transposed });
        to.into_iter().map(|r| Val { ty: Ty::U32, operand: Operand::Reg(r) }).collect()
    }

    /// `sum += a * b` on tensor cores, the sums being variables: see [`Stmt::Mma`].
    pub fn mma(&mut self, factor: Factor, sum: &[Val], a: &[Val], b: &[Val]) {
        let (sum, a, b) = (self.registers(sum), self.registers(a), self.registers(b));
        if let (Some(sum), Some(a), Some(b)) = (sum, a, b) {
            self.say(Stmt::Mma { factor, sum, a, b });
        }
    }

    /// `sums += a * b` by a warpgroup: see [`Stmt::GroupMma`].
    pub fn group_mma(&mut self, factor: Factor, sums: &[Val], a: Val, b: Val) {
        let a = GroupRows::Shared(self.register(a));
        self.group(factor, sums, true, a, b);
    }

    /// The same with rows in registers, four words; where it does not add, the sums begin with it.
    pub fn group_mma_of(&mut self, factor: Factor, sums: &[Val], adds: bool, a: &[Val], b: Val) {
        if let Some(a) = self.registers(a) {
            self.group(factor, sums, adds, GroupRows::Registers(a), b);
        }
    }

    fn registers<const N: usize>(&mut self, values: &[Val]) -> Option<[Reg; N]> {
        let list: Vec<Reg> = values.iter().map(|&v| self.register(v)).collect();
        list.try_into().ok()
    }

    fn group(&mut self, factor: Factor, sums: &[Val], adds: bool, a: GroupRows, b: Val) {
        let sums = sums.iter().map(|&v| self.register(v)).collect();
        let b = self.register(b);
        self.say(Stmt::GroupMma { factor, sums, adds, a, b });
    }

    /// Orders what was written before products that begin behind it.
    pub fn fence_products(&mut self) {
        self.say(Stmt::FenceProducts);
    }

    /// Closes a group of products.
    pub fn commit_products(&mut self) {
        self.say(Stmt::CommitProducts);
    }

    /// Waits until at most so many of the latest groups of products are under way.
    pub fn wait_products(&mut self, pending: u32) {
        self.say(Stmt::WaitProducts(pending));
    }

    /// Makes what the thread wrote to shared memory visible to products of warpgroups.
    pub fn fence_proxy(&mut self) {
        self.say(Stmt::FenceProxy);
    }
}
