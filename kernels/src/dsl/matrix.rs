//! What whole warps and warpgroups do: loads of matrices and products on tensor cores.

use super::{Val, Writer};
use crate::ptx::{Factor, GroupRows, Operand, Reg, Stmt, Ty};

/// How a warpgroup multiplies.
#[derive(Debug, Clone, Copy)]
pub struct GroupMma {
    /// Whether what the sums hold is added to, or replaced.
    pub adds: bool,
    /// Whether columns lie side by side, a depth to a row.
    pub across: bool,
}

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

    /// `sums += a * b` by a warpgroup: see [`Stmt::GroupMma`]. Rows are told by a descriptor, or are four words in registers.
    pub fn group_mma(&mut self, (factor, how): (Factor, GroupMma), sums: &[Val], a: &[Val], b: Val) {
        let rows = match *a {
            [a] => Some(GroupRows::Shared(self.register(a))),
            _ => self.registers(a).map(GroupRows::Registers),
        };
        let sums = sums.iter().map(|&v| self.register(v)).collect();
        let b = self.register(b);
        if let Some(a) = rows {
            self.say(Stmt::GroupMma { factor, sums, adds: how.adds, a, b, across: how.across });
        }
    }

    fn registers<const N: usize>(&mut self, values: &[Val]) -> Option<[Reg; N]> {
        let list: Vec<Reg> = values.iter().map(|&v| self.register(v)).collect();
        list.try_into().ok()
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
