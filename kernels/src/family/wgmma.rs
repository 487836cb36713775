//! Contractions by products of warpgroups (`wgmma`, from sm_90a): four warps multiply 64 rows by up to 256 columns at once, both factors
//! read from shared memory by the tensor cores themselves, while the warps copy the next tiles. Rows in TF32 that warps copy come through registers,
//! where they are rounded: tensor cores would cut off what they do not read. Columns are weights that were rounded when they were packed, mostly.

use super::Unsupported;
use super::blocks::{Depth, Panels, Place, Tiling, by_lane};
use super::engine::{self, Engine};
use super::factors::sources;
use super::fragments::{Fragments, Side};
use super::mma::{Facts, Product};
use super::partial::{Meeting, Shares};
use super::pipeline::Readers;
use super::products::{Mode, Words};
use super::tile::{Along, Layout};
use crate::arch::Arch;
use crate::dsl::{GroupMma, Val, Writer};
use crate::layout::{PANEL, ROW, descriptor};
use crate::ptx::{Factor, Kernel, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::WeightLayout;

schedule! {
    /// How a contraction of half types or TF32 is computed by warpgroups.
    Wgmma(Product => Facts) = "wgmma" {
        /// Rows of a block's tile.
        bm: [64, 128, 192, 256],
        /// Columns of a block's tile.
        bn: [16, 32, 64, 96, 128, 192, 256],
        /// Rows of a warpgroup.
        wm: [64, 128],
        /// Tiles in shared memory at once; two of them are read.
        stages: [3, 4, 5, 6, 8],
        /// Blocks that share the depth.
        split: [1, 2, 3, 4, 6, 8, 12, 16],
    }
}

/// Bytes of depth of a product.
const STEP: u32 = 32;
/// Products of a group whose rows come through registers.
const GROUP: u32 = 2;

impl Wgmma {
    fn threads(&self) -> u32 {
        128 * (self.bm / self.wm)
    }

    /// Registers of a thread, as `ptxas` was seen to take them at most.
    fn registers(&self) -> u32 {
        72 + self.wm * self.bn / 128
    }

    /// Elements of depth of a tile: a row of shared memory.
    fn depth(f: &Facts) -> u32 {
        ROW / f.element
    }

    /// Of the rows, and of a panel of the columns.
    fn layouts(&self, f: &Facts) -> [Layout; 2] {
        let layout = |i: usize, lines| Layout::for_matrices(f.directions[i], lines, Self::depth(f), f.element);
        [layout(0, self.bm), layout(1, self.bn / self.panels(f))]
    }

    /// Panels of columns: a row of shared memory holds 64 of those that lie across the depth.
    fn panels(&self, f: &Facts) -> u32 {
        if f.across() { self.bn.div_ceil(PANEL) } else { 1 }
    }

    /// How blocks that share the depth share out its sums, where they are a cluster.
    fn shares(&self, f: &Facts) -> Option<Shares> {
        Shares::of(self.split, (self.wm / 4, self.bn), [self.bm, self.bn], (self.stages * self.stage(), &f.arch))
    }

    fn rounds(&self, f: &Facts) -> u32 {
        f.size.k.div_ceil(Self::depth(f)).div_ceil(self.split)
    }

    fn stage(&self) -> u32 {
        (self.bm + self.bn) * ROW
    }

    pub(super) fn fits(&self, f: &Facts) -> bool {
        let half = matches!(f.mode, Some(Mode::Half(_)));
        let columns = if f.across() { half && self.bn.is_multiple_of(PANEL) } else { half || f.mode == Some(Mode::Tf32) };
        let reads = f.arch.groups > 0.0 && columns && f.directions[0].0 == Along::Depth;
        if !reads || !f.small || !self.bm.is_multiple_of(self.wm) {
            return false;
        }
        let (threads, rounds) = (self.threads(), self.rounds(f));
        f.shared_out([self.bm, self.bn], (rounds, Self::depth(f)), self.split)
            && self.registers() <= 255
            && self.registers() * threads <= 65536
            && self.layouts(f).iter().all(|l| l.fits(threads))
            && (self.stages == 3 || self.stages - 3 < rounds)
            && (self.stages * self.stage() + 16) as usize <= f.arch.shared
    }

    fn estimate(&self, f: &Facts) -> f64 {
        self.cost_with(f, None)
    }

    /// As for `mma`: waves of blocks, each as long as the slowest of what its rounds wait for. The copy engine may bring the second factor,
    /// to so many blocks at once.
    pub(super) fn cost_with(&self, f: &Facts, engine: Option<u32>) -> f64 {
        let cluster = engine.unwrap_or(1);
        let tiles = f.size.batch * f.size.m.div_ceil(self.bm).next_multiple_of(cluster) * f.size.n.div_ceil(self.bn);
        let resident = f64::from(f.arch.resident(
            self.threads(),
            self.registers(),
            self.stages * self.stage() + Meeting::beside(self.shares(f), [self.bm, self.bn]),
        ));
        let warps = f64::from(self.threads() / 32);
        let products = f64::from(self.bm * self.bn) * f64::from(ROW / 2) / f.arch.groups;
        let copied = if engine.is_none() { 2 } else { usize::from(!f.matrix) };
        let by_threads = |l: &Layout| f64::from(l.lines * l.depth / l.vector);
        let [rows, panel] = self.layouts(f);
        let all = [by_threads(&rows), by_threads(&panel) * f64::from(self.panels(f))];
        let copies = all[..copied].iter().sum::<f64>() / f64::from(self.threads());
        let per_copy = if self.layouts(f).iter().any(|l| l.vector * l.element < 4) { 30.0 } else { f.per_copy };
        // A warp's loads of rows that it rounds; the copy engine rounds what it brings.
        let rounds = f.mode == Some(Mode::Tf32) && copied > 0;
        let roundings = if rounds { 20.0 * f64::from(self.wm * ROW / 64 / STEP) } else { 0.0 };
        let issue = warps * (copies * per_copy + roundings + 60.0) / 4.0;
        // What comes by the engine takes less of the way from the second cache than copies of threads; a cluster's blocks wait for each other.
        let lines = [f64::from(self.bm), f64::from(self.bn / cluster)].map(|n| n * f64::from(ROW));
        let way = |by_engine: bool| if by_engine { 60.0 } else { 43.0 };
        let cache = lines[0] / way(copied == 0) + lines[1] / way(engine.is_some());
        let (together, ahead) = if copied == 0 { (0.04, 90.0) } else { (0.065, 120.0) };
        let lockstep = if cluster > 1 { 200.0 * ((1024.0 - products) / 256.0).clamp(0.0, 1.0) } else { 0.0 };
        // Such a step waits for its rows to reach registers.
        let steps = if rounds { f64::from(ROW / STEP) * 100.0 } else { 0.0 };
        let alone = 1.1 * products.max(steps) + 0.8 * copies * per_copy + ahead;
        // Rows that come through registers are waited for before a tile's products begin.
        let latency = if rounds { 1500.0 } else { 1000.0 };
        let memory = (latency + cache) / f64::from(self.stages - 2);
        // The engine reads tensor maps before it copies.
        let first = if copied == 0 { 2250.0 } else { 1500.0 };
        let rounds = f64::from(self.rounds(f));
        let epilogue = (0.6 + f.epilogue / 4.0) * f64::from(self.bm * self.bn) / 32.0;
        let wave = |blocks: f64| {
            let slowest = [blocks * products, blocks * issue, blocks * cache, alone, memory].into_iter().fold(0.0, f64::max);
            rounds * (slowest + blocks * (together * (issue + cache) + lockstep)) + first + blocks * epilogue
        };
        f.time((tiles, self.split), (resident, self.shares(f).is_some()), self.bm * self.bn, wave)
    }
}

/// How products read a warpgroup's rows.
pub(super) enum RowsFrom {
    /// By address, here of stage 0.
    Shared(Val),
    Registers(Fragments),
}

/// A block's columns in stage 0.
pub(super) struct Columns {
    pub address: Val,
    /// Whether they lie across the depth.
    pub across: bool,
    pub factor: Factor,
    pub count: u32,
}

impl RowsFrom {
    /// Begins the products of a tile that lies so far behind the first stage, by blocks of 64 rows and all columns. They are added to sums, or
    /// the first of them begin those.
    pub(super) fn multiply(&self, k: &mut Writer, stage: Val, columns: &Columns, (sums, add): (&[Val], bool)) {
        let blocks = || (0..).step_by(64).zip(sums.chunks(columns.count as usize / 2));
        let deeper = |step: u32| i64::from((step * STEP) >> 4);
        // Depths of a step are rows where columns lie across.
        let below = |step: u32| deeper(step) * if columns.across { i64::from(PANEL) } else { 1 };
        let apart = if columns.across { PANEL * ROW } else { 0 };
        let how = |step: u32| (columns.factor, GroupMma { adds: add || step > 0, across: columns.across });
        match self {
            Self::Shared(rows) => {
                let starts = [k.add(*rows, stage), k.add(columns.address, stage)];
                let (a, b) = (descriptor(k, starts[0], 0), descriptor(k, starts[1], apart));
                k.fence_products();
                for step in 0..ROW / STEP {
                    let b = k.plus(b, below(step));
                    for (row, sums) in blocks() {
                        let a = k.plus(a, deeper(step) + i64::from((row * ROW) >> 4));
                        k.group_mma(how(step), sums, &[a], b);
                    }
                }
                k.commit_products();
            }
            Self::Registers(fragments) => {
                let (bases, steps) = (fragments.in_stage(k, stage), ROW / STEP);
                let start = k.add(columns.address, stage);
                let b = descriptor(k, start, 0);
                // By step and block of 64 rows, as they lie.
                let tile: Vec<Vec<Vec<Val>>> =
                    (0..steps).map(|step| blocks().map(|(row, _)| fragments.read(k, &bases, step, row / 16)).collect()).collect();
                for group in (0..steps).step_by(GROUP as usize) {
                    // Of a tile's groups, the same one of the tile before has read these registers.
                    k.wait_products(steps / GROUP - 1);
                    let round = |words: &Vec<Val>| Mode::Tf32.words(k, Side::Rows, std::slice::from_ref(words), false);
                    let rows: Vec<Words> = tile[group as usize..][..GROUP as usize].iter().flatten().map(round).collect();
                    k.fence_products();
                    let products = (group..group + GROUP).flat_map(|step| blocks().map(move |(_, sums)| (step, sums)));
                    for ((step, sums), words) in products.zip(&rows) {
                        let b = k.plus(b, deeper(step));
                        k.group_mma(how(step), sums, &words[0], b);
                    }
                    k.commit_products();
                }
            }
        }
    }
}

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn wgmma(p: &Product, s: &Wgmma, arch: &Arch) -> Result<Kernel, Unsupported> {
    generate(p, s, None, arch)
}

/// The same, where the copy engine may bring the second factor to so many blocks at once.
pub(super) fn generate(p: &Product, s: &Wgmma, engine: Option<u32>, arch: &Arch) -> Result<Kernel, Unsupported> {
    let c = &p.contraction;
    let facts = Facts::of(p, arch);
    let Some(mode) = facts.mode.filter(|_| s.legal(&facts)) else {
        return Err(Unsupported(format!("{s} does not fit a contraction of {} over {:?}", c.dtype, c.space)));
    };
    let cluster = engine.unwrap_or(1);
    let (roles, size, depth, threads) = (c.roles(), facts.size, Wgmma::depth(&facts), s.threads());
    let sources = sources(c, p.layout);
    let layouts = s.layouts(&facts);
    let sums = s.shares(&facts).map_or(s.bn, |shares| s.bn / shares.columns);
    let maps = engine.and_then(|blocks| Some((engine::rows(p, s.bm), engine::columns(p, s.bn / blocks)?.by_lane(sums))));
    let by_lane = maps.as_ref().map_or(by_lane(c.out.dtype, &size, layouts[1].along, sums), |m| m.1.are_by_lane());
    let copied = maps.as_ref().map_or(2, |m| usize::from(m.0.is_none()));
    let (extents, shared) = ([s.bm, s.bn], s.stages * s.stage());
    let panels = Panels::Beside(s.panels(&facts));
    let tiling = Tiling {
        size,
        layouts: &layouts,
        extents,
        split: s.split,
        threads,
        shared,
        cluster,
        copied,
        panels,
        shares: s.shares(&facts),
        by_lane,
    };
    let mut k = Writer::for_arch(arch);
    k.fast = c.out.dtype.bytes() == 2;
    let place = tiling.place(&mut k, &sources, arch);
    let Place { thread, batch, starts, .. } = place;
    let engine = maps.map(|maps| Engine::new(&mut k, maps, &place, (s.stages, cluster)));
    let (warp, lane) = k.warp(thread);
    let (group, quarter) = k.div_rem(warp, 4);
    let own = k.scaled(group, i64::from(s.wm));
    let first_row = |k: &mut Writer| {
        let row = k.scaled(quarter, 16);
        k.add(own, row)
    };
    let rounds = mode == Mode::Tf32 && copied > 0;
    let rows = if rounds {
        let row = first_row(&mut k);
        RowsFrom::Registers(Fragments::new(&mut k, layouts[0], Side::Rows, (lane, row, 16), starts[0], false))
    } else {
        let moved = k.scaled(own, i64::from(ROW));
        RowsFrom::Shared(k.add(starts[0], moved))
    };
    let zero = k.float(0.0, Ty::F32);
    let sums: Vec<Val> = (0..s.wm * s.bn / 128).map(|_| k.variable(zero)).collect();

    let columns = Columns { address: starts[1], across: facts.across(), factor: mode.factor(), count: s.bn };
    let rounded = c.tf32 && p.layout != WeightLayout::Columns;
    let readers = if rounds { Readers::Both } else { Readers::Products };
    let depth = Depth { stages: s.stages, elements: depth, rounds: s.rounds(&facts), total: size.k, rounded, readers };
    let first = place.first(&mut k, &depth);
    let consume = |k: &mut Writer, _: Val, reading: Val| {
        rows.multiply(k, reading, &columns, (&sums, true));
    };
    place.stream(&mut k, &depth, (first, s.split), (p.layout, engine.as_ref()), consume);
    let row = first_row(&mut k);
    let firsts = [k.add(place.firsts[0], row), place.firsts[1]];
    let ahead = (if threads > 256 { 4 } else { 8 } * 32 / s.wm).max(1) as usize;
    let grid = tiling.grid((c, &roles), (batch, lane), firsts, [s.wm / 4, s.bn, 64], ahead);
    let name = if engine.is_some() { "bulk" } else { "wgmma" };
    grid.finish(k, name, &tiling.partial(&place, c.extras.len()), &sums)
}
