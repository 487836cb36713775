//! The copy engine: tiles that it copies, barriers that it tells, and clusters of blocks that share them.

use super::{Val, Writer};
use crate::ptx::{MemTy, Op, Operand, Reg, Space, Stmt, Ty};
use wpk_plan::TensorMap;

impl Writer {
    /// Says that a parameter is a description; its address.
    pub fn tensor_map(&mut self, map: TensorMap) -> Val {
        self.maps.push(map);
        self.parameter(map.argument)
    }

    /// Says how many blocks are a cluster.
    pub fn cluster(&mut self, blocks: u32) {
        self.cluster = blocks;
    }

    /// A shared address without the block's number in its cluster, which stands above what descriptors have bits for.
    pub fn within_block(&mut self, address: Val) -> Val {
        const BYTES: i64 = 1 << 18;
        if self.cluster == 1 {
            return address;
        }
        let all = self.int(BYTES - 1, Ty::U32);
        self.op(Ty::U32, Op::And, &[address, all])
    }

    /// Prepares a barrier at a shared address: see [`Stmt::InitBarrier`].
    pub fn init_barrier(&mut self, address: Val, count: u32) {
        let address = self.register(address);
        self.say(Stmt::InitBarrier { address, count });
    }

    /// Makes prepared barriers known.
    pub fn fence_barriers(&mut self) {
        self.say(Stmt::FenceBarriers);
    }

    /// Comes to a barrier and announces bytes.
    pub fn expect_bytes(&mut self, address: Val, bytes: u32) {
        let address = self.register(address);
        self.say(Stmt::ExpectBytes { address, bytes });
    }

    /// Waits for the end of a barrier's phase.
    pub fn await_bytes(&mut self, address: Val, parity: Val) {
        let address = self.register(address);
        self.say(Stmt::AwaitBytes { address, parity: parity.operand });
    }

    /// Starts the copy of a tile: see [`Stmt::CopyTile`].
    pub fn copy_tile(&mut self, map: Val, at: [Val; 2], to: Val, barrier: Val, everywhere: bool) {
        let Operand::Reg(map) = map.operand else { return };
        let (to, barrier) = (self.register(to), self.register(barrier));
        self.say(Stmt::CopyTile { map, at: at.map(|v| v.operand), to, barrier, everywhere });
    }

    /// Comes to the cluster's barrier: see [`Stmt::ArriveCluster`].
    pub fn arrive_cluster(&mut self, releases: bool) {
        self.say(Stmt::ArriveCluster { releases });
    }

    /// A shared address as it is in the cluster's block of a number.
    pub fn peer(&mut self, address: Val, block: u32) -> Val {
        let block = self.int(i64::from(block), Ty::U32);
        self.op(Ty::U32, Op::Peer, &[address, block])
    }

    /// Neighbouring elements some bytes behind a shared address, as they are in the cluster's block of a number.
    pub fn load_peer(&mut self, (mem, ty): (MemTy, Ty), address: Val, offset: i32, n: usize) -> Vec<Val> {
        let Operand::Reg(address) = address.operand else { return vec![] };
        let to: Vec<Reg> = (0..n).map(|_| self.fresh(ty)).collect();
        self.say(Stmt::Load { space: Space::Cluster, ty: mem, to: to.clone(), address, offset });
        to.into_iter().map(|r| Val { ty, operand: Operand::Reg(r) }).collect()
    }

    /// Waits for the cluster's other threads there.
    pub fn wait_cluster(&mut self) {
        self.say(Stmt::WaitCluster);
    }
}
