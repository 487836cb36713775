//! Strict `f32` contractions by products of warpgroups: factors as sums of three bfloat16 parts (see [`Mode::Parts`]). A warp takes its rows
//! apart in registers; the columns, which all warps multiply, the block takes apart once into shared memory, while the tensor cores
//! still multiply the tile before. Sums are brought to `f32` registers after every tile.

use super::Unsupported;
use super::blocks::{Depth, Panels, Place, Tiling, by_lane};
use super::exact::{Tile, repair};
use super::factors::sources;
use super::fragments::{Fragments, Side};
use super::mma::{Facts, Product};
use super::partial::{Meeting, Shares};
use super::pipeline::{Factors, Pipeline, Readers};
use super::products::{Mode, Words, part_of};
use super::tile::{Along, Layout};
use crate::arch::Arch;
use crate::dsl::{GroupMma, Val, Writer};
use crate::layout::{ROW, Rows, descriptor};
use crate::ptx::{Kernel, MemTy, Op, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::WeightLayout;

schedule! {
    /// How a contraction in strict `f32` is computed by warpgroups.
    Strict(Product => Facts) = "strict" {
        /// Rows of a block's tile.
        bm: [64, 128],
        /// Columns of a block's tile.
        bn: [32, 64, 128],
        /// Tiles of `f32` in shared memory at once.
        stages: [2, 3],
        /// Blocks that share the depth.
        split: [1, 2, 3, 4, 6, 8, 12, 16],
    }
}

/// Elements of depth of a tile: a row of a part.
const DEPTH: u32 = ROW / 2;
/// Rows of a warpgroup.
const ROWS: u32 = 64;
/// Parts of a factor.
const PARTS: u32 = 3;

impl Strict {
    fn threads(&self) -> u32 {
        128 * (self.bm / ROWS)
    }

    /// Registers of a thread, as `ptxas` was seen to take them at most.
    fn registers(&self) -> u32 {
        124 + self.bn
    }

    fn layouts(&self, f: &Facts) -> [Layout; 2] {
        let layout = |i: usize, lines| Layout::for_matrices(f.directions[i], lines, DEPTH, 4);
        // Columns are read one depth at a time, neighbours by neighbouring threads.
        [layout(0, self.bm), Layout { rows: Rows::padded(4 * self.bn, 0), ..layout(1, self.bn) }]
    }

    fn stage(&self, f: &Facts) -> u32 {
        self.layouts(f).iter().map(Layout::bytes).sum()
    }

    /// Bytes of the parts of a tile's columns; those of two tiles are held.
    fn parts(&self) -> u32 {
        PARTS * self.bn * ROW
    }

    fn shared(&self, f: &Facts) -> u32 {
        (self.stages * self.stage(f)).next_multiple_of(8 * ROW) + 2 * self.parts()
    }

    /// How blocks that share the depth share out its sums, where they are a cluster.
    fn shares(&self, f: &Facts) -> Option<Shares> {
        let clusters = f.clusters(f.tiles([self.bm, self.bn]), self.split);
        Shares::of(self.split, (16, self.bn), [self.bm, self.bn], (self.shared(f), &f.arch)).filter(|_| clusters)
    }

    fn rounds(&self, f: &Facts) -> u32 {
        f.size.k.div_ceil(DEPTH).div_ceil(self.split)
    }

    fn fits(&self, f: &Facts) -> bool {
        let reads = f.arch.groups > 0.0 && f.mode == Some(Mode::Parts);
        if !reads || !f.small || f.directions[0].0 != Along::Depth || f.directions[1].0 != Along::Lines {
            return false;
        }
        let (threads, rounds) = (self.threads(), self.rounds(f));
        f.shared_out([self.bm, self.bn], (rounds, DEPTH), self.split)
            && self.layouts(f).iter().all(|l| l.fits(threads))
            && (self.stages == 2 || self.stages - 1 < rounds)
            && (self.shared(f) + 16) as usize <= f.arch.shared
    }

    /// As for `wgmma`, where what a warp does by itself does not run beside its products.
    fn estimate(&self, f: &Facts) -> f64 {
        let tiles = f.tiles([self.bm, self.bn]);
        let resident = f64::from(f.arch.resident(
            self.threads(),
            self.registers(),
            self.shared(f) + Meeting::beside(self.shares(f), [self.bm, self.bn]),
        ));
        let warps = f64::from(self.threads() / 32);
        let products = 6.0 * f64::from(self.bm * self.bn * DEPTH) / f.arch.groups;
        let copies = self.layouts(f).iter().map(|l| f64::from(l.lines * l.depth / l.vector)).sum::<f64>() / f64::from(self.threads());
        let per_copy = if self.layouts(f).iter().any(|l| l.vector == 1) { 30.0 } else { 1.7 * f.per_copy };
        // By thread: its rows, its sums, and its share of the columns.
        let own = 8.0 * f64::from(DEPTH / 2) + 1.5 * f64::from(self.bn / 2);
        let columns = 9.0 * f64::from(self.bn * DEPTH / self.threads());
        let beside = columns + copies * per_copy + 120.0;
        let issue = warps * (own + beside) / 4.0;
        let cache = f64::from((self.bm + self.bn) * DEPTH * 4) / 43.0;
        // Two barriers and the way from rows to products and back are waited for in every round; what warps issue hardly runs beside
        // products, of whichever block.
        let alone = (1.1 * products).max(2.5 * beside) + 950.0 + warps * own / 4.0;
        let rounds = f64::from(self.rounds(f));
        let epilogue = (1.9 + f.epilogue / 4.0) * f64::from(self.bm * self.bn) / 32.0;
        let wave = |blocks: f64| {
            let slowest = [0.9 * blocks * (1.05 * products + issue), blocks * cache, alone].into_iter().fold(0.0, f64::max);
            rounds * slowest + 2500.0 + blocks * epilogue
        };
        f.time((tiles, self.split), (resident, self.shares(f).is_some()), self.bm * self.bn, wave)
    }
}

/// The columns of a tile on their way to parts: a thread takes eight depths of a column at a time.
struct Columns {
    layout: Layout,
    /// By turn: the shared address of the first depth in stage 0, and of the sixteen bytes of the first part in buffer 0.
    turns: Vec<(Val, Val)>,
    part: u32,
}

impl Columns {
    fn new(k: &mut Writer, layout: Layout, (start, parts): (Val, Val), (thread, threads): (Val, u32)) -> Self {
        let bn = layout.lines;
        let (first_depth, column) = k.div_rem(thread, bn);
        let turns = (0..DEPTH / 8 * bn / threads).map(|turn| {
            let chunk = k.plus(first_depth, i64::from(turn * (threads / bn)));
            let depth = k.scaled(chunk, 8);
            let byte = k.scaled(column, 4);
            let from = layout.rows.emit(k, depth, byte);
            let byte = k.scaled(chunk, 16);
            let to = Rows::swizzled(ROW).emit(k, column, byte);
            (k.add(start, from), k.add(parts, to))
        });
        Self { layout, turns: turns.collect(), part: bn * ROW }
    }

    /// Takes a tile apart. Words hold the depths that a lane's words of the rows do: four apart.
    fn split(&self, k: &mut Writer, stage: Val, buffer: Val) {
        for &(from, to) in &self.turns {
            let (from, to) = (k.add(from, stage), k.add(to, buffer));
            let pitch = self.layout.rows.pitch as i32;
            let floats: Vec<Val> = (0..8).map(|d| k.load_at(MemTy::F32, Ty::F32, from, d * pitch, 1)[0]).collect();
            let mut rests: Vec<[Val; 2]> = (0..4).map(|i| [floats[i], floats[i + 4]]).collect();
            for part in 0..PARTS {
                let words: Vec<Val> = rests.iter_mut().map(|rest| part_of(k, rest, part + 1 < PARTS)).collect();
                k.store_at(MemTy::B32, to, (part * self.part) as i32, &words);
            }
        }
    }
}

/// What a round does with a tile: begins its products, and adds what they gave.
struct Round<'a> {
    columns: &'a Columns,
    multiply: &'a dyn Fn(&mut Writer, Val, Val),
    gather: &'a dyn Fn(&mut Writer),
    /// Bytes of a buffer of parts.
    parts: u32,
}

/// Streams the tiles: while products of one run, copies of later ones do, and the next one's columns are taken apart.
fn stream(k: &mut Writer, (p, f): (&Pipeline, &Factors<'_>), layout: WeightLayout, round: &Round<'_>) {
    let number = |k: &Writer, x: u32| k.int(i64::from(x), Ty::U32);
    let first: Vec<(Val, Val)> = (0..p.stages.min(p.rounds)).map(|n| (number(k, n), number(k, n * p.bytes))).collect();
    let constant = layout != WeightLayout::Dense;
    if constant {
        k.constant_param(1);
        first.first().into_iter().for_each(|&(n, to)| f.copy(k, 1, n, to));
        k.wait_dependencies();
    }
    for stage in 0..p.stages as usize {
        if let Some(&(n, to)) = first.get(stage) {
            f.copy(k, 0, n, to);
            if !constant || stage > 0 {
                f.copy(k, 1, n, to);
            }
        }
        p.commit(k);
    }
    let (none, other) = (number(k, 0), number(k, round.parts));
    p.arrived(k, p.stages - 1);
    k.barrier();
    round.columns.split(k, none, none);
    k.fence_proxy();
    k.barrier();
    let second = number(k, 1 % p.stages * p.bytes);
    let [reading, next, buffer] = [none, second, none].map(|x| k.variable(x));
    k.repeat(p.rounds, |k, n| {
        (round.multiply)(k, reading, buffer);
        p.arrived(k, p.stages - 2);
        // Every warp has read its rows, and has added what products of the round before gave.
        k.barrier();
        let [following, last] = [1, p.stages].map(|ahead| k.plus(n, i64::from(ahead)));
        let more = k.below(last, i64::from(p.rounds));
        k.when(more, |k| (0..2).for_each(|side| f.copy(k, side, last, reading)));
        p.commit(k);
        let spare = k.sub(other, buffer);
        let more = k.below(following, i64::from(p.rounds));
        k.when(more, |k| round.columns.split(k, next, spare));
        k.fence_proxy();
        (round.gather)(k);
        k.barrier();
        k.assign(buffer, spare);
        p.advance(k, reading);
        p.advance(k, next);
    });
}

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn strict(p: &Product, s: &Strict, arch: &Arch) -> Result<Kernel, Unsupported> {
    let c = &p.contraction;
    let facts = Facts::of(p, arch);
    if !s.legal(&facts) {
        return Err(Unsupported(format!("{s} does not fit a contraction of {} over {:?}", c.dtype, c.space)));
    }
    let (roles, size, threads) = (c.roles(), facts.size, s.threads());
    let (sources, layouts) = (sources(c, p.layout), s.layouts(&facts));
    let (extents, shared) = ([s.bm, s.bn], s.shared(&facts));
    let (split, shares) = (s.split, s.shares(&facts));
    let by_lane = by_lane(c.out.dtype, &size, layouts[1].along, shares.as_ref().map_or(s.bn, |shares| s.bn / shares.columns));
    let tiling =
        Tiling { size, layouts: &layouts, extents, split, threads, shared, cluster: 1, copied: 2, panels: Panels::ONE, shares, by_lane };
    let mut k = Writer::for_arch(arch);
    let place = tiling.place(&mut k, &sources, arch);
    let Place { thread, batch, starts, .. } = place;
    let (warp, lane) = k.warp(thread);
    let (group, quarter) = k.div_rem(warp, 4);
    let own = k.scaled(group, i64::from(ROWS));
    let row = k.scaled(quarter, 16);
    let row = k.add(own, row);
    let fragments = Fragments::new(&mut k, layouts[0], Side::Rows, (lane, row, 16), starts[0], false);
    let parts = k.plus(starts[0], i64::from(shared - 2 * s.parts()));
    let columns = Columns::new(&mut k, layouts[1], (starts[1], parts), (thread, threads));
    let zero = k.float(0.0, Ty::F32);
    let [sums, turn]: [Vec<Val>; 2] = [(); 2].map(|()| (0..s.bn / 2).map(|_| k.variable(zero)).collect());

    let depth =
        Depth { stages: s.stages, elements: DEPTH, rounds: s.rounds(&facts), total: size.k, rounded: false, readers: Readers::Warps };
    let first = place.first(&mut k, &depth);
    let multiply = |k: &mut Writer, stage: Val, buffer: Val| {
        let (bases, steps) = (fragments.in_stage(k, stage), DEPTH / 16);
        let rows: Vec<Words> = (0..steps).map(|at| Mode::Parts.read(k, (&fragments, &bases), (at, 2 * steps), 0, false)).collect();
        let start = k.add(parts, buffer);
        k.fence_products();
        // Small products first, so that the little that tensor cores cut off at every addition is cut off small sums.
        let order = (0..PARTS).rev().flat_map(|small| (0..=small).map(move |of_row| (of_row, small - of_row)));
        let all = order.flat_map(|parts| (0..steps).map(move |at| (parts, at)));
        for (i, ((of_row, of_column), at)) in all.enumerate() {
            let column = k.plus(start, i64::from(of_column * columns.part + at * 32));
            let b = descriptor(k, column, 0);
            let how = GroupMma { adds: i > 0, across: false };
            k.group_mma((Mode::Parts.factor(), how), &turn, &rows[at as usize][of_row as usize], b);
        }
        k.commit_products();
    };
    let gather = |k: &mut Writer| {
        k.wait_products(0);
        for (&sum, &x) in sums.iter().zip(&turn) {
            k.update(sum, Op::Add, &[sum, x]);
        }
    };
    let round = Round { columns: &columns, multiply: &multiply, gather: &gather, parts: s.parts() };
    let (pipeline, factors) = place.streams(&depth, (first, s.split));
    stream(&mut k, (&pipeline, &factors), p.layout, &round);

    let firsts = [k.add(place.firsts[0], row), place.firsts[1]];
    let again = Tile {
        patch: None,
        runs: None,
        sources: &sources,
        batch,
        firsts,
        across: s.bn / 8,
        lane,
        first,
        depth: depth.rounds * DEPTH,
        total: size.k,
        parts: None,
        by_lane,
    };
    repair(&mut k, &again, &sums);
    let ahead = if threads > 128 { 4 } else { 8 };
    let grid = tiling.grid((c, &roles), (batch, lane), firsts, [16, s.bn, ROWS], ahead);
    grid.finish(k, "strict", &tiling.partial(&place, c.extras.len()), &sums)
}
