//! The copy engine: tiles that it copies, barriers that it tells, and clusters of blocks that share them.

use super::{Val, Writer};
use crate::ptx::{Op, Operand, Stmt, Ty};
use wpk_plan::{Parts, TensorMap};

impl Writer {
    /// Says that a parameter is a description; its address.
    pub fn tensor_map(&mut self, map: TensorMap) -> Val {
        self.maps.push(map);
        self.parameter(map.argument)
    }

    /// Whether the thread is the one that the block's first warp elects: for what only one is to ask the engine for.
    pub fn one_of_first_warp(&mut self, thread: Val) -> Val {
        let elected = self.op(Ty::Pred, Op::Elect, &[]);
        let first = self.below(thread, 32);
        self.op(Ty::Pred, Op::And, &[elected, first])
    }

    /// The number of the thread's warp, known to be the same in all its lanes, and the thread's lane.
    pub fn warp(&mut self, thread: Val) -> (Val, Val) {
        let (warp, lane) = self.div_rem(thread, 32);
        (self.op(Ty::U32, Op::Uniform, &[warp]), lane)
    }

    /// Says that a parameter is given in parts.
    pub fn in_parts(&mut self, parts: &Parts) {
        self.parts = Some(parts.clone());
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

    /// Comes to a barrier.
    pub fn arrive(&mut self, address: Val) {
        let address = self.register(address);
        self.say(Stmt::Arrive { address });
    }

    /// Waits for the end of a barrier's phase.
    pub fn await_bytes(&mut self, address: Val, parity: Val) {
        let address = self.register(address);
        self.say(Stmt::AwaitBytes { address, parity: parity.operand });
    }

    /// Starts the copy of a tile: see [`Stmt::CopyTile`].
    pub fn copy_tile(&mut self, map: Val, at: &[Val], window: Option<[Val; 2]>, to: Val, barrier: Val, everywhere: bool) {
        let Operand::Reg(map) = map.operand else { return };
        let (to, barrier) = (self.register(to), self.register(barrier));
        self.say(Stmt::CopyTile {
            map,
            at: at.iter().map(|v| v.operand).collect(),
            window: window.map(|w| w.map(|v| v.operand)),
            to,
            barrier,
            everywhere,
        });
    }

    /// A shared address as it is in the cluster's block of a number.
    pub fn peer(&mut self, address: Val, block: u32) -> Val {
        let block = self.int(i64::from(block), Ty::U32);
        self.op(Ty::U32, Op::Peer, &[address, block])
    }

    /// Sends values to a block of the cluster: see [`Stmt::Send`].
    pub fn send(&mut self, to: Val, offset: i32, values: &[Val], barrier: Val) {
        let (to, barrier) = (self.register(to), self.register(barrier));
        self.say(Stmt::Send { from: values.iter().map(|v| v.operand).collect(), to, offset, barrier });
    }

    /// Comes to the cluster's barrier.
    pub fn arrive_cluster(&mut self) {
        self.say(Stmt::ArriveCluster);
    }

    /// Waits for the cluster's other threads there.
    pub fn wait_cluster(&mut self) {
        self.say(Stmt::WaitCluster);
    }
}
