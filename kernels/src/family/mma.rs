//! Contractions on tensor cores: tiles of both factors stream through shared memory in stages, each warp keeps a rectangle of
//! sums. Half types are multiplied as they are, `f32` rounded to TF32, or, where that is not allowed, as the sum of three
//! bfloat16 parts (six products; small ones first, sums brought to `f32` registers after each), which weights are given in.

use super::Unsupported;
use super::affine::small;
use super::blocks::{Depth, Panels, Place, Tiling, by_lane};
use super::engine;
use super::exact::{Tile, repair};
use super::factors::{Size, parts, source_of_parts, sources};
use super::fragments::{Fragments, Side};
use super::partial::{Meeting, Shares};
use super::pipeline::Readers;
use super::products::{Mode, Words, multiply};
use super::tile::{Along, Layout};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::layout::PANEL;
use crate::ptx::{Kernel, Op, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::WeightLayout;
use wpk_plan::problem::Contraction;

/// A contraction with the layout of its second factor.
#[derive(Debug, Clone)]
pub struct Product {
    /// What is computed.
    pub contraction: Contraction,
    /// How the second factor lies.
    pub layout: WeightLayout,
}

schedule! {
    /// How a contraction is computed on tensor cores.
    Mma(Product => Facts) = "mma" {
        /// Rows of a block's tile.
        bm: [16, 32, 64, 128, 256],
        /// Columns of a block's tile.
        bn: [16, 32, 64, 128, 256],
        /// Bytes of depth of a tile.
        bk: [32, 64, 128, 256],
        /// Rows of a warp.
        wm: [16, 32, 64],
        /// Columns of a warp.
        wn: [16, 32, 64, 128],
        /// Tiles in shared memory at once.
        stages: [2, 3, 4, 5, 6, 8],
        /// Blocks that share the depth.
        split: [1, 2, 3, 4, 6, 8, 12, 16, 24, 32],
    }
}

/// What a schedule of a contraction depends on.
pub struct Facts {
    pub(super) size: Size,
    pub(super) mode: Option<Mode>,
    pub(super) element: u32,
    pub(super) small: bool,
    /// Whether the copy engine can bring the second factor.
    pub(super) columns: bool,
    /// Whether the first factor is a matrix that it can bring too.
    pub(super) matrix: bool,
    /// Whether the second factor is a weight in panels, of which parts can be made.
    weight: bool,
    pub(super) directions: [(Along, u32); 2],
    pub(super) bytes: f64,
    /// Instructions to find and start a copy.
    pub(super) per_copy: f64,
    /// Instructions of the epilogue by element.
    pub(super) epilogue: f64,
    pub(super) arch: Arch,
}

impl Facts {
    /// Whether columns lie side by side, a depth after the other.
    pub(super) fn across(&self) -> bool {
        self.directions[1].0 == Along::Lines
    }

    /// Whether the second factor is given in parts.
    pub(super) fn in_parts(&self) -> bool {
        self.weight && self.mode == Some(Mode::Parts)
    }

    /// Tiles of the product, of so many rows and columns.
    pub(super) fn tiles(&self, [bm, bn]: [u32; 2]) -> u32 {
        self.size.batch * self.size.m.div_ceil(bm) * self.size.n.div_ceil(bn)
    }

    /// Whether the blocks that share the depth of a tile should be a cluster: not where some had to wait for others that find place at once by
    /// themselves. Their sums meet more slowly in memory, which pays for strict `f32`, whose blocks take longest.
    pub(super) fn clusters(&self, tiles: u32, split: u32) -> bool {
        let waits = (self.arch.clusters + 1..=self.arch.sms).contains(&tiles.saturating_mul(split));
        split == 2 || self.mode != Some(Mode::Parts) || !waits
    }

    /// Whether so many blocks may share the depth of tiles, which each of them takes in rounds: every block has some, the last maybe fewer, and
    /// blocks can be counted.
    pub(super) fn shared_out(&self, [bm, bn]: [u32; 2], (rounds, depth): (u32, u32), split: u32) -> bool {
        let tiles = u64::from(self.size.m.div_ceil(bm)) * u64::from(self.size.n.div_ceil(bn));
        let all = split == 1 || rounds * depth * (split - 1) < self.size.k && rounds >= 2;
        all && tiles * u64::from(self.size.batch * split) < 1 << 24
    }

    fn panels(&self) -> Panels {
        if self.in_parts() { Panels::Parts } else { Panels::ONE }
    }

    pub(super) fn of(p: &Product, arch: &Arch) -> Self {
        let c = &p.contraction;
        let points = c.space.iter().try_fold(1usize, |n, &d| n.checked_mul(d).filter(|&n| n < 1 << 40));
        let roles = c.roles();
        let [a, b] = sources(c, p.layout);
        let packed = roles.packed_len().max(roles.count(&roles.batch) * roles.count(&roles.n) * roles.column_len(2));
        let bytes = (c.a.view().len() + c.b.view().len()) * c.dtype.bytes() + c.out.view.len() * c.out.dtype.bytes();
        Self {
            size: Size::of(&roles),
            mode: Mode::of(c.dtype, c.tf32).filter(|_| arch.matrix > 0.0 && c.given == c.dtype),
            element: c.dtype.bytes() as u32,
            columns: engine::columns(p, PANEL).is_some(),
            matrix: engine::rows(p, 8).is_some(),
            small: small(c) && points.is_some() && packed < 1 << 30,
            weight: p.layout == WeightLayout::Panels16 && packed < 1 << 28,
            directions: [a.direction(), b.direction()],
            bytes: bytes as f64,
            per_copy: if roles.taps.iter().any(|&l| c.space[l] > 1) { 10.3 } else { 7.2 },
            epilogue: super::scalar::cost(&c.epilogue) + 2.0 * c.extras.len() as f64,
            arch: *arch,
        }
    }

    /// Nanoseconds of tiles, each split between blocks, by the cycles that so many blocks at once take on a multiprocessor; sums of split
    /// tiles go through the second cache, or through shared memory where blocks are a cluster.
    pub(super) fn time(&self, (tiles, split): (u32, u32), (resident, cluster): (f64, bool), sums: u32, wave: impl Fn(f64) -> f64) -> f64 {
        let mut cycles = self.arch.waves((f64::from(tiles * split), if cluster { split } else { 1 }), resident, wave);
        if cluster {
            cycles += 900.0 + f64::from(sums * 4) / 30.0;
        } else if split > 1 {
            cycles += 2450.0 + f64::from(sums * 4 * split) / 35.0;
        }
        self.limited(cycles)
    }

    /// Nanoseconds of so many cycles beside the way to memory.
    pub(super) fn limited(&self, cycles: f64) -> f64 {
        let (time, traffic) = (cycles / 1.7, self.bytes / (1.5 * self.arch.bandwidth));
        time.max(traffic) + 0.33 * time.min(traffic)
    }
}

impl Mma {
    fn warps(&self) -> u32 {
        self.bm / self.wm * (self.bn / self.wn)
    }

    fn threads(&self) -> u32 {
        32 * self.warps()
    }

    /// Bytes of shared memory.
    fn shared(&self, f: &Facts) -> u32 {
        self.stages * self.stage(f)
    }

    /// Elements of depth of a tile.
    fn depth(&self, element: u32) -> u32 {
        self.bk / element
    }

    /// Registers of a thread; what `ptxas` takes for copies and an epilogue beside two sets of sums was measured.
    fn registers(&self, f: &Facts, mode: Mode) -> u32 {
        let (sums, words) = (self.wm * self.wn / 32, self.wm / 4 + self.wn / 4);
        match mode {
            Mode::Parts => {
                let copies = self.stage(f) / 16 / self.threads();
                56 + 2 * (sums + copies + f.epilogue as u32) + 3 * self.wm / 4 + self.bk / 4
            }
            _ => 56 + sums + words,
        }
    }

    /// Of the rows, and of the columns or each part of them.
    fn layouts(&self, f: &Facts) -> [Layout; 2] {
        let layout = |direction, lines, element| Layout::for_matrices(direction, lines, self.depth(f.element), element);
        let columns = if f.in_parts() { layout((Along::Depth, 8), self.bn, 2) } else { layout(f.directions[1], self.bn, f.element) };
        [layout(f.directions[0], self.bm, f.element), columns]
    }

    /// Bytes of a stage.
    fn stage(&self, f: &Facts) -> u32 {
        let [rows, columns] = self.layouts(f).map(|l| l.bytes());
        rows + f.panels().count() * columns
    }

    /// How blocks that share the depth share out its sums, where they are a cluster.
    fn shares(&self, f: &Facts) -> Option<Shares> {
        let shared = self.shared(f);
        let clusters = f.clusters(f.tiles([self.bm, self.bn]), self.split);
        Shares::of(self.split, (self.wm, self.wn), [self.bm, self.bn], (shared, &f.arch)).filter(|_| clusters)
    }

    /// Tiles of the depth that each block takes.
    fn rounds(&self, f: &Facts) -> u32 {
        f.size.k.div_ceil(self.depth(f.element)).div_ceil(self.split)
    }

    fn fits(&self, f: &Facts) -> bool {
        let Some(mode) = f.mode else { return false };
        // Matrices of bytes are not turned as they are loaded.
        if mode == Mode::Bytes && f.directions.iter().any(|d| d.0 != Along::Depth || d.1 < 4) {
            return false;
        }
        // A product takes the depth of two steps, and parts have no half of one.
        if f.in_parts() && self.bk < 64 {
            return false;
        }
        if self.wm > self.bm || self.wn > self.bn || self.warps() > 16 {
            return false;
        }
        let (threads, rounds, depth) = (self.threads(), self.rounds(f), self.depth(f.element));
        let layouts = self.layouts(f);
        let registers = self.registers(f, mode);
        f.small
            && f.shared_out([self.bm, self.bn], (rounds, depth), self.split)
            && registers <= 255
            && registers * threads <= 65536
            && layouts.iter().all(|l| l.fits(threads))
            && (self.stages == 2 || self.stages - 2 < rounds)
            && (self.shared(f) + 16) as usize <= f.arch.shared
    }

    /// Waves of blocks, each as long as the slowest of what its rounds wait for. The constants, in cycles, were fitted to measured
    /// landscapes (`cargo wpk landscape`), where the choice takes 1.05 times the best schedule's time.
    fn estimate(&self, f: &Facts) -> f64 {
        let Some(mode) = f.mode else { return f64::INFINITY };
        let (layouts, stage) = (self.layouts(f), self.stage(f));
        let tiles = f.tiles([self.bm, self.bn]);
        let resident = f64::from(f.arch.resident(
            self.threads(),
            self.registers(f, mode),
            self.stages * stage + Meeting::beside(self.shares(f), [self.bm, self.bn]),
        ));
        let (warps, steps) = (f64::from(self.warps()), f64::from(self.bk / 32));
        // By warp and round: products, loads of matrices, roundings, and copies by thread.
        let products = f64::from(self.wm * self.wn / 128 * mode.products()) * steps;
        // Bytes of a column at all depths of a row's 32.
        let column = f64::from(if f.in_parts() { 16 * f.panels().count() } else { 32 });
        let loads = (f64::from(self.wm) + f64::from(self.wn) * column / 32.0) / 16.0 * steps;
        let roundings = match mode {
            Mode::Half(_) | Mode::Bytes => 0.0,
            Mode::Tf32 => f64::from(self.wm / 4) * steps,
            Mode::Parts => {
                let lines = if f.in_parts() { self.wm } else { self.wm + self.wn };
                (1.4 * f64::from(lines) + f64::from(self.wm * self.wn / 64)) * steps
            }
        };
        let [rows, columns] = layouts.map(|l| f64::from(l.lines * l.depth / l.vector));
        let copies = (rows + f64::from(f.panels().count()) * columns) / f64::from(self.threads());
        let per_copy = if layouts.iter().any(|l| l.vector * l.element < 4) { 30.0 } else { f.per_copy };
        // What a multiprocessor's blocks share: issue slots, shared memory, and the way to the second cache.
        let issue = warps * (products * 8192.0 / f.arch.matrix + 2.0 * loads + roundings + copies * per_copy + 36.0) / 4.0;
        let read = (f64::from(self.wm) + f64::from(self.wn) * column / 32.0) * f64::from(self.bk);
        let shared = (warps * read + f64::from(stage)) / 128.0;
        let cache = f64::from(stage) / 43.0;
        // What a single warp waits for in a round, and memory.
        let alone = 8.5 * products + 4.7 * loads + 2.0 * roundings + 0.8 * copies * per_copy + 58.0;
        let memory = 1200.0 / f64::from(self.stages - 1);
        let rounds = f64::from(self.rounds(f));
        let epilogue = (1.9 + f.epilogue / 4.0) * f64::from(self.bm * self.bn) / 32.0;
        let wave = |blocks: f64| {
            let slowest = [blocks * issue, blocks * shared, blocks * cache, alone, memory].into_iter().fold(0.0, f64::max);
            rounds * (slowest + 0.065 * blocks * (issue + shared + cache)) + 1500.0 + blocks * epilogue
        };
        f.time((tiles, self.split), (resident, self.shares(f).is_some()), self.bm * self.bn, wave)
    }
}

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn mma(p: &Product, s: &Mma, arch: &Arch) -> Result<Kernel, Unsupported> {
    let c = &p.contraction;
    let facts = Facts::of(p, arch);
    let Some(mode) = facts.mode.filter(|_| s.legal(&facts)) else {
        return Err(Unsupported(format!("{s} does not fit a contraction of {} over {:?}", c.dtype, c.space)));
    };
    let (roles, size) = (c.roles(), facts.size);
    let mut k = Writer::for_arch(arch);
    k.fast = c.out.dtype.bytes() == 2;
    let (mut sources, in_parts) = (sources(c, p.layout), parts(&roles));
    if facts.in_parts() {
        k.in_parts(&in_parts);
        sources[1] = source_of_parts(&in_parts);
    }
    let layouts = s.layouts(&facts);
    let (threads, depth) = (s.threads(), s.depth(facts.element));
    let (extents, shared) = ([s.bm, s.bn], s.shared(&facts));
    let (split, shares, panels) = (s.split, s.shares(&facts), facts.panels());
    let by_lane = by_lane(c.out.dtype, &size, layouts[1].along, shares.as_ref().map_or(s.wn, |shares| s.wn / shares.columns));
    let tiling = Tiling { size, layouts: &layouts, extents, split, threads, shared, cluster: 1, copied: 2, panels, shares, by_lane };
    let place = tiling.place(&mut k, &sources, arch);
    let Place { thread, batch, starts, .. } = place;
    let (warp, lane) = k.div_rem(thread, 32);
    let (warp_m, warp_n) = k.div_rem(warp, s.bn / s.wn);
    let lines = [k.scaled(warp_m, i64::from(s.wm)), k.scaled(warp_n, i64::from(s.wn))];
    let fragments = [
        Fragments::new(&mut k, layouts[0], Side::Rows, (lane, lines[0], s.wm), starts[0], false),
        Fragments::new(&mut k, layouts[1], Side::Columns, (lane, lines[1], s.wn), starts[1], false),
    ];
    let rounded = p.layout == WeightLayout::Columns && c.tf32;
    let zero = if mode == Mode::Bytes { k.int(0, Ty::S32) } else { k.float(0.0, Ty::F32) };
    let sums: Vec<Val> = (0..s.wm * s.wn / 32).map(|_| k.variable(zero)).collect();
    let parts: Vec<Val> = if mode == Mode::Parts { sums.iter().map(|_| k.variable(zero)).collect() } else { vec![] };

    let depth =
        Depth { stages: s.stages, elements: depth, rounds: s.rounds(&facts), total: size.k, rounded: false, readers: Readers::Warps };
    let first = place.first(&mut k, &depth);
    let consume = |k: &mut Writer, _: Val, reading: Val| {
        let bases = |k: &mut Writer, side: usize, part: u32| {
            let stage = k.plus(reading, i64::from(part * layouts[side].bytes()));
            fragments[side].in_stage(k, stage)
        };
        let rows_at = bases(k, 0, 0);
        let columns_at: Vec<Vec<Val>> = (0..panels.count()).map(|part| bases(k, 1, part)).collect();
        let into = if parts.is_empty() { &sums } else { &parts };
        let (steps, across) = (s.bk / 32, s.wn / 16);
        for at in 0..steps.div_ceil(mode.steps()) {
            let rows: Vec<Words> = (0..s.wm / 16).map(|block| mode.read(k, (&fragments[0], &rows_at), (at, steps), block, false)).collect();
            parts.iter().for_each(|&part| k.assign(part, zero));
            for block in 0..across {
                let columns: Words = if panels == Panels::Parts {
                    columns_at.iter().map(|bases| fragments[1].read(k, bases, at, block)).collect()
                } else {
                    mode.read(k, (&fragments[1], &columns_at[0]), (at, steps), block, rounded)
                };
                multiply(k, mode, &rows, &columns, (block, across), into);
            }
            for (&sum, &part) in sums.iter().zip(&parts) {
                k.update(sum, Op::Add, &[sum, part]);
            }
        }
    };
    place.stream(&mut k, &depth, (first, s.split), (p.layout, None), consume);
    let firsts = [k.add(place.firsts[0], lines[0]), k.add(place.firsts[1], lines[1])];
    if mode == Mode::Parts {
        let (sources, across, total) = (&sources, s.wn / 8, size.k);
        let tile = Tile {
            patch: None,
            runs: None,
            sources,
            batch,
            firsts,
            across,
            lane,
            first,
            depth: depth.rounds * depth.elements,
            total,
            parts: facts.in_parts().then_some(&in_parts),
            by_lane,
        };
        repair(&mut k, &tile, &sums);
    }
    let grid = tiling.grid((c, &roles), (batch, lane), firsts, [s.wm, s.wn, 16], usize::from(s.wm <= 32));
    grid.finish(k, "mma", &tiling.partial(&place, c.extras.len()), &sums)
}
