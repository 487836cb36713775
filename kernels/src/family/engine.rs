//! The second factor of a contraction by the copy engine: one thread asks for tiles ahead, barriers tell when they came. Blocks of a cluster,
//! whose tiles need the same columns, ask for a part each, and the engine hands every part to all of them (multicast).

use super::blocks::Place;
use super::mma::Product;
use super::pipeline::{Factors, Pipeline};
use crate::dsl::{Val, Writer};
use crate::layout::ROW;
use crate::ptx::{Cmp, Ty};
use wpk_plan::{TensorMap, WeightLayout};

/// What brings the second factor.
pub struct Engine {
    map: Val,
    /// The barrier of stage 0; those of the others follow.
    barriers: Val,
    /// Whether the thread is the one that asks.
    asks: Val,
    /// Where the block's part of a tile goes in stage 0, and its first line.
    to: Val,
    line: Val,
    /// Bytes of a whole tile.
    bytes: u32,
    cluster: u32,
}

/// Bytes of a barrier.
const BARRIER: u32 = 8;

impl Engine {
    /// How the engine sees the second factor, in parts of so many columns; `None` where it cannot.
    pub fn map(p: &Product, part: u32) -> Option<TensorMap> {
        let (roles, size) = (p.contraction.roles(), p.contraction.dtype.bytes());
        let (depth, lines) = (roles.count(&roles.k()), roles.count(&roles.n));
        let pitch = roles.column_len(size) * size;
        let map = TensorMap { argument: 1, dtype: p.contraction.dtype, depth, lines, pitch, tile: part };
        // Shared memory repeats every eight lines.
        (p.layout == WeightLayout::Columns && roles.count(&roles.batch) == 1 && part.is_multiple_of(8) && map.fault().is_none())
            .then_some(map)
    }

    /// Prepares the barriers of so many stages, which all blocks of the cluster know afterwards.
    pub fn new(k: &mut Writer, map: TensorMap, place: &Place<'_>, (stages, cluster): (u32, u32)) -> Self {
        let zero = k.int(0, Ty::U32);
        let asks = k.compare(Cmp::Eq, place.thread, zero);
        let (map, part) = (k.tensor_map(map), map.tile);
        let barriers = k.shared(stages * BARRIER);
        k.cluster(cluster);
        k.when(asks, |k| {
            for stage in 0..stages {
                let at = k.plus(barriers, i64::from(stage * BARRIER));
                k.init_barrier(at, 1);
            }
            k.fence_barriers();
        });
        // Threads of the block come to a barrier before they wait for bytes.
        if cluster > 1 {
            k.arrive_cluster();
            k.wait_cluster();
        }
        let first = k.scaled(place.rank, i64::from(part));
        let moved = k.scaled(first, i64::from(ROW));
        let (to, line) = (k.add(place.starts[1], moved), k.add(place.firsts[1], first));
        Self { map, barriers, asks, to, line, bytes: part * cluster * ROW, cluster }
    }

    /// Asks for the tile at a depth, into the stage so many bytes behind the first, whose barrier is as far behind the first one.
    fn ask(&self, k: &mut Writer, depth: Val, stage: Val, barrier: Val) {
        let barrier = k.add(self.barriers, barrier);
        k.expect_bytes(barrier, self.bytes);
        let to = k.add(self.to, stage);
        let at = [depth, self.line].map(|v| Val { ty: Ty::S32, ..v });
        k.copy_tile(self.map, at, to, barrier, self.cluster > 1);
    }
}

impl Pipeline {
    /// As [`Pipeline::factors`], for products of warpgroups: threads copy the first factor, the engine the second, a weight.
    pub fn with_engine(&self, k: &mut Writer, f: &Factors<'_>, engine: &Engine, consume: impl FnOnce(&mut Writer, Val, Val)) {
        let ahead = self.stages - 2;
        let depth = |k: &mut Writer, round: Val| {
            let deeper = k.scaled(round, i64::from(f.depth));
            k.add(f.first, deeper)
        };
        let rows = |k: &mut Writer, round: Val, to: Val| {
            let at = depth(k, round);
            f.loaders[0].copy(k, at, to, f.whole);
            self.commit(k);
        };
        let number = |k: &Writer, x: u32| k.int(i64::from(x), Ty::U32);
        let stages: Vec<[Val; 3]> = (0..ahead.min(self.rounds)).map(|s| [s, s * self.bytes, s * BARRIER].map(|x| number(k, x))).collect();
        k.constant_param(1);
        k.when(engine.asks, |k| {
            for &[round, to, barrier] in &stages {
                let at = depth(k, round);
                engine.ask(k, at, to, barrier);
            }
        });
        k.wait_dependencies();
        stages.iter().for_each(|&[round, to, _]| rows(k, round, to));
        (stages.len()..ahead as usize).for_each(|_| self.commit(k));
        let (zero, begin) = (number(k, 0), [ahead * self.bytes, ahead * BARRIER].map(|x| number(k, x)));
        let [reading, came, parity] = [zero; 3].map(|x| k.variable(x));
        let [writing, told] = begin.map(|x| k.variable(x));
        if engine.cluster > 1 {
            k.arrive_cluster();
        }
        k.repeat(self.rounds, |k, round| {
            k.wait_copies(ahead - 1);
            f.rounded[0].then(|| f.loaders[0].round(k, reading));
            k.fence_proxy();
            k.barrier();
            let barrier = k.add(engine.barriers, came);
            k.await_bytes(barrier, parity);
            consume(k, round, reading);
            // Products run beside what follows. Those of the round before last are over in every block of the cluster behind this wait.
            if engine.cluster > 1 {
                k.wait_cluster();
            }
            let next = k.plus(round, i64::from(ahead));
            let more = k.below(next, i64::from(self.rounds));
            k.when(more, |k| {
                let at = depth(k, next);
                f.loaders[0].copy(k, at, writing, f.whole);
                k.when(engine.asks, |k| engine.ask(k, at, writing, told));
            });
            self.commit(k);
            k.wait_products(1);
            if engine.cluster > 1 {
                k.arrive_cluster();
            }
            self.advance(k, writing);
            self.step(k, told, BARRIER);
            self.advance(k, reading);
            let wraps = self.step(k, came, BARRIER);
            let one = k.int(1, Ty::U32);
            let flipped = k.op(Ty::U32, crate::ptx::Op::Xor, &[parity, one]);
            let next = k.select(wraps, flipped, parity);
            k.assign(parity, next);
        });
        k.wait_products(0);
        if engine.cluster > 1 {
            k.wait_cluster();
        }
    }
}
