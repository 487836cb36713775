//! Contractions by two warpgroups in turns (known as ping-pong): blocks stay on their multiprocessors and take tile after tile, one warpgroup each.
//! While one multiplies, the other ends its tile, so that tensor cores never wait for an epilogue; copies by the engine run ahead through one ring
//! of stages from tile to tile, so that they never wait for a first copy either.

use super::Unsupported;
use super::blocks::{Panels, Place, Tiling};
use super::engine::{self, BARRIER, Engine};
use super::factors::sources;
use super::mma::{Facts, Product};
use super::products::Mode;
use super::tile::{Along, Layout};
use super::wgmma::{Columns, RowsFrom};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::layout::{PANEL, ROW};
use crate::ptx::{Cmp, Kernel, Op, Ty};
use crate::schedule::{Schedule, schedule};

schedule! {
    /// How a contraction is computed by two warpgroups in turns.
    PingPong(Product => Facts) = "pingpong" {
        /// Rows of a tile.
        bm: [64, 128, 192],
        /// Columns of a tile.
        bn: [64, 96, 128, 192, 256],
        /// Tiles of the depth in shared memory at once.
        stages: [3, 4, 5, 6, 8],
        /// Blocks that share the columns.
        cluster: [1, 2],
    }
}

/// Of the two warpgroups of a block.
const THREADS: u32 = 256;
/// Warps of a warpgroup.
const WARPS: u32 = 4;

impl PingPong {
    fn stage(&self) -> u32 {
        (self.bm + self.bn) * ROW
    }

    fn depth(f: &Facts) -> u32 {
        ROW / f.element
    }

    fn rounds(f: &Facts) -> u32 {
        f.size.k.div_ceil(Self::depth(f))
    }

    fn tiles(&self, f: &Facts) -> u32 {
        f.size.m.div_ceil(self.bm).next_multiple_of(self.cluster) * f.size.n.div_ceil(self.bn)
    }

    /// Tiles that the busiest block takes.
    fn turns(&self, f: &Facts) -> u32 {
        (self.tiles(f) / self.cluster).div_ceil(f.arch.sms / self.cluster)
    }

    fn panels(&self, f: &Facts) -> u32 {
        if f.across() { self.bn.div_ceil(PANEL) } else { 1 }
    }

    fn layouts(&self, f: &Facts) -> [Layout; 2] {
        let layout = |i: usize, lines| Layout::for_matrices(f.directions[i], lines, Self::depth(f), f.element);
        [layout(0, self.bm), layout(1, self.bn / self.panels(f))]
    }

    fn fits(&self, f: &Facts) -> bool {
        let half = matches!(f.mode, Some(Mode::Half(_)));
        let columns = if f.across() { half && self.bn.is_multiple_of(PANEL * self.cluster) } else { half || f.mode == Some(Mode::Tf32) };
        f.arch.groups > 0.0
            && f.small
            && f.columns
            && f.matrix
            && columns
            && f.directions[0].0 == Along::Depth
            && self.bm * self.bn / 128 <= 192
            && self.layouts(f).iter().all(|l| l.fits(THREADS))
            && self.bn.is_multiple_of(8 * self.cluster)
            && f.arch.sms >= self.cluster
            && self.turns(f) >= 2
            && self.tiles(f) < 1 << 24
            && self.stages <= Self::rounds(f)
            && (self.stages * (self.stage() + 2 * BARRIER) + 64) as usize <= f.arch.shared
    }

    /// Tiles follow each other at the pace of the slowest of a round's products, its way to shared memory and from there, and its latency. What
    /// epilogues issue was measured to add to that, though products run beside it.
    fn estimate(&self, f: &Facts) -> f64 {
        let sums = f64::from(self.bm * self.bn);
        let products = 1.13 * sums * f64::from(ROW / 2) / f.arch.groups;
        let written = f64::from(self.stage());
        // Every 64 rows read all columns again.
        let read = f64::from(self.bm / 64 * (64 + self.bn) * ROW);
        let latency = 2100.0 / f64::from(self.stages - 1);
        let slowest = [products, written / 55.0, (written + read) / 118.0, latency].into_iter().fold(0.0, f64::max);
        let round = slowest + if self.cluster > 1 { 33.0 } else { 0.0 };
        let epilogue = (1.5 + 0.77 * f.epilogue) * sums / 128.0;
        let tile = f64::from(Self::rounds(f)) * round + 190.0 + epilogue;
        let cycles = 2120.0 + f64::from(self.turns(f)) * tile + epilogue;
        f.limited(cycles)
    }
}

/// A stage, by the bytes that its tiles and its barrier lie behind the first one's, and the parity of its use.
struct Cursor {
    bytes: Val,
    barrier: Val,
    parity: Val,
}

impl Cursor {
    fn list(&self) -> [Val; 3] {
        [self.bytes, self.barrier, self.parity]
    }

    /// Of a round that some warpgroup begins with, by number.
    fn starting(k: &mut Writer, r: &Ring, second: Val) -> Self {
        let at = |round: u32| [round % r.stages * r.stage, round % r.stages * BARRIER, round / r.stages % 2];
        let all = [at(0), at(r.rounds)].map(|list| list.map(|x| k.int(i64::from(x), Ty::U32)));
        let [bytes, barrier, parity] = [0, 1, 2].map(|i| {
            let start = k.select(second, all[1][i], all[0][i]);
            k.variable(start)
        });
        Self { bytes, barrier, parity }
    }

    fn remember(&self, k: &mut Writer, other: &Self) {
        self.list().into_iter().zip(other.list()).for_each(|(to, from)| k.assign(to, from));
    }

    /// So many rounds on.
    fn advance(&self, k: &mut Writer, r: &Ring, rounds: u32) {
        let (within, times) = (rounds % r.stages, rounds / r.stages);
        let flip = |k: &mut Writer, p: Val, by: u32| {
            let by = k.int(i64::from(by), Ty::U32);
            k.op(Ty::U32, Op::Xor, &[p, by])
        };
        let inside = k.below(self.bytes, i64::from((r.stages - within) * r.stage));
        for (at, size) in [(self.bytes, r.stage), (self.barrier, BARRIER)] {
            let on = k.plus(at, i64::from(within * size));
            let around = k.plus(at, i64::from(within * size) - i64::from(r.stages * size));
            let next = k.select(inside, on, around);
            k.assign(at, next);
        }
        let (on, around) = (flip(k, self.parity, times % 2), flip(k, self.parity, (times + 1) % 2));
        let next = k.select(inside, on, around);
        k.assign(self.parity, next);
    }
}

/// The stages that all tiles of a block go through, one after the other.
struct Ring {
    stages: u32,
    /// Bytes of a stage.
    stage: u32,
    /// Rounds of a tile, and elements of depth of each.
    rounds: u32,
    depth: u32,
    /// The barriers that tell that a stage was read, one behind the other.
    read: Val,
    /// Whether the warp asks for tiles, and which of its threads; and whether the thread tells for its warp.
    asking: Val,
    asks: Val,
    tells: Val,
    cluster: u32,
}

impl Ring {
    /// The warp has read a stage, to which copies bring another round once all have: of one of several tiles, the one that is so.
    fn refill(&self, k: &mut Writer, stage: &Cursor, rounds: &[(&Engine, Val, Val)]) {
        let barrier = k.add(self.read, stage.barrier);
        k.when(self.tells, |k| {
            if self.cluster == 1 {
                return k.arrive(barrier);
            }
            for block in 0..self.cluster {
                let peer = k.peer(barrier, block);
                k.arrive(peer);
            }
        });
        k.when_warp(self.asking, |k| {
            k.await_bytes(barrier, stage.parity);
            for (engine, exists, round) in rounds {
                let asks = k.op(Ty::Pred, Op::And, &[self.asks, *exists]);
                k.when(asks, |k| {
                    let at = k.scaled(*round, i64::from(self.depth));
                    engine.ask_both(k, at, (stage.bytes, stage.barrier));
                });
            }
        });
    }
}

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn pingpong(p: &Product, s: &PingPong, arch: &Arch) -> Result<Kernel, Unsupported> {
    let c = &p.contraction;
    let facts = Facts::of(p, arch);
    let maps = engine::rows(p, s.bm).zip(engine::columns(p, s.bn / s.cluster).map(|c| c.by_lane(s.bn)));
    let (Some(mode), Some((rows, columns))) = (facts.mode.filter(|_| s.legal(&facts)), maps) else {
        return Err(Unsupported(format!("{s} does not fit a contraction of {} over {:?}", c.dtype, c.space)));
    };
    let by_lane = columns.are_by_lane();
    let (roles, sources, layouts) = (c.roles(), sources(c, p.layout), s.layouts(&facts));
    let tiling = Tiling {
        size: facts.size,
        layouts: &layouts,
        extents: [s.bm, s.bn],
        split: 1,
        threads: THREADS,
        shared: s.stages * s.stage(),
        cluster: s.cluster,
        copied: 0,
        panels: Panels::Beside(s.panels(&facts)),
        shares: None,
        by_lane,
    };
    let tiles = s.tiles(&facts);
    let blocks = (tiles / s.cluster).div_ceil(s.turns(&facts)) * s.cluster;
    let mut k = Writer::for_arch(arch);
    k.fast = c.out.dtype.bytes() == 2;
    let place = tiling.place(&mut k, &sources, arch);
    let Place { thread, tile, starts, .. } = place;
    let (read, turns) = (k.shared(s.stages * BARRIER), k.shared(2 * BARRIER));
    let zero = k.int(0, Ty::U32);
    let first = k.one_of_first_warp(thread);
    k.when(first, |k| {
        let all = (0..s.stages).map(|stage| (read, stage, WARPS * s.cluster)).chain((0..2).map(|group| (turns, group, WARPS)));
        for (barriers, i, count) in all {
            let at = k.plus(barriers, i64::from(i * BARRIER));
            k.init_barrier(at, count);
        }
    });
    let engine = Engine::new(&mut k, (Some(rows), columns), &place, (s.stages, s.cluster));
    if s.cluster == 1 {
        k.barrier();
    }
    let (warp, lane) = k.warp(thread);
    let (group, warp) = k.div_rem(warp, WARPS);
    let ring = Ring {
        stages: s.stages,
        stage: s.stage(),
        rounds: PingPong::rounds(&facts),
        depth: PingPong::depth(&facts),
        read,
        cluster: s.cluster,
        asking: k.compare(Cmp::Eq, warp, zero),
        asks: k.op(Ty::Pred, Op::Elect, &[]),
        tells: k.compare(Cmp::Eq, lane, zero),
    };
    k.wait_dependencies();
    k.when(first, |k| {
        for stage in 0..s.stages {
            let at = k.int(i64::from(stage * ring.depth), Ty::U32);
            let behind = [s.stage(), BARRIER].map(|size| k.int(i64::from(stage * size), Ty::U32));
            engine.ask_both(k, at, (behind[0], behind[1]));
        }
    });

    let row = k.scaled(warp, 16);
    let reader = RowsFrom::Shared(starts[0]);
    let columns = Columns { address: starts[1], across: facts.across(), factor: mode.factor(), count: s.bn };
    let nothing = k.float(0.0, Ty::F32);
    let sums: Vec<Val> = (0..s.bm * s.bn / 128).map(|_| k.variable(nothing)).collect();
    let second = k.compare(Cmp::Eq, group, k.int(1, Ty::U32));
    let (now, before) = (Cursor::starting(&mut k, &ring, second), Cursor::starting(&mut k, &ring, second));
    // Parities tell two uses of a stage apart and no more, so that nobody may wait for tiles while the other warpgroup is further behind. The first
    // turn is the first warpgroup's: the phase before a barrier's first counts as ended.
    let one = k.int(1, Ty::U32);
    let parity = k.op(Ty::U32, Op::Xor, &[group, one]);
    let [own_turn, others_turn] = [group, parity].map(|of| {
        let behind = k.scaled(of, i64::from(BARRIER));
        k.add(turns, behind)
    });
    let parity = k.variable(parity);
    let own = k.scaled(group, i64::from(blocks));
    let own = k.add(tile, own);
    let last = k.int(i64::from(tiles + 2 * blocks - 1), Ty::U32);
    let left = k.sub(last, own);
    let count = k.div_rem(left, 2 * blocks).0;
    let tile = k.variable(own);
    let mut result = Ok(());
    k.repeat_for(count, |k, _| {
        let (batch, _, firsts) = tiling.corner(k, tile, arch);
        let next = k.plus(tile, i64::from(blocks));
        let more = k.below(next, i64::from(tiles));
        let (_, _, nexts) = tiling.corner(k, next, arch);
        let (here, there) = (engine.at(k, firsts), engine.at(k, nexts));
        let arrived = |k: &mut Writer| {
            let barrier = engine.barrier(k, now.barrier);
            k.await_bytes(barrier, now.parity);
        };
        k.await_bytes(own_turn, parity);
        arrived(k);
        reader.multiply(k, now.bytes, &columns, (&sums, false));
        before.remember(k, &now);
        now.advance(k, &ring, 1);
        k.repeat(ring.rounds - 1, |k, n| {
            arrived(k);
            // All of the tile is there.
            let last = k.compare(Cmp::Eq, n, k.int(i64::from(ring.rounds) - 2, Ty::U32));
            let hands_over = k.op(Ty::Pred, Op::And, &[ring.tells, last]);
            k.when(hands_over, |k| k.arrive(others_turn));
            reader.multiply(k, now.bytes, &columns, (&sums, true));
            k.wait_products(1);
            // The stage takes a later round of this tile, or one of the other warpgroup's.
            let limit = k.int(i64::from(ring.rounds - ring.stages), Ty::U32);
            let own = k.compare(Cmp::Lt, n, limit);
            let others = k.compare(Cmp::Le, limit, n);
            let others = k.op(Ty::Pred, Op::And, &[others, more]);
            let later = k.plus(n, i64::from(ring.stages));
            let of_other = k.plus(n, i64::from(ring.stages) - i64::from(ring.rounds));
            ring.refill(k, &before, &[(&here, own, later), (&there, others, of_other)]);
            before.remember(k, &now);
            now.advance(k, &ring, 1);
        });
        k.wait_products(0);
        let later = k.int(i64::from(ring.stages - 1), Ty::U32);
        ring.refill(k, &before, &[(&there, more, later)]);
        now.advance(k, &ring, ring.rounds);
        let flipped = k.op(Ty::U32, Op::Xor, &[parity, one]);
        k.assign(parity, flipped);
        let after = k.plus(tile, i64::from(2 * blocks));
        k.assign(tile, after);
        let firsts = [k.add(firsts[0], row), firsts[1]];
        // Values that registers have room for beside the sums, by rows of eight.
        let room = if s.bm * s.bn > 128 * 128 { 32 } else { 64 };
        let ahead = (4 * room / s.bm) as usize;
        let grid = tiling.grid((c, &roles), (batch, lane), firsts, [s.bm / 4, s.bn, 64], ahead);
        result = grid.end(k, &sums);
    });
    result?;
    if s.cluster > 1 {
        // A block that had ended could not be told any more.
        k.arrive_cluster();
        k.wait_cluster();
    }
    Ok(k.finish("pingpong", 3 + c.extras.len() as u32, THREADS, blocks))
}
