//! Strict `f32` contractions by products of warpgroups whose second factor is a weight that was taken apart when the plan was loaded: three
//! bfloat16 parts of each factor, six products (see [`Mode::Parts`]). A warp takes its rows apart in registers while tensor cores multiply the
//! depths before.

use super::Unsupported;
use super::blocks::{Depth, Panels, Place, Tiling, by_lane};
use super::exact::{Tile, repair};
use super::factors::{parts, source_of_parts, sources};
use super::fragments::{Fragments, Side};
use super::mma::{Facts, Product};
use super::partial::{Meeting, Shares};
use super::pipeline::Readers;
use super::products::Mode;
use super::sums::Sums;
use super::tile::{Along, Layout};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::layout::{ROW, descriptor};
use crate::ptx::Kernel;
use crate::schedule::{Schedule, schedule};
use wpk_plan::{Parts, WeightLayout};

schedule! {
    /// How a contraction in strict `f32` with a weight is computed by warpgroups.
    Bf16x3(Product => Facts) = "bf16x3" {
        /// Rows of a block's tile.
        bm: [64, 128],
        /// Columns of a block's tile.
        bn: [16, 32, 64],
        /// Tiles in shared memory at once; two of them are read.
        stages: [3, 4, 5, 6],
        /// Blocks that share the depth.
        split: [1, 2, 3, 4, 6, 8, 12, 16],
    }
}

/// Elements of depth of a tile: a row of a part.
const DEPTH: u32 = ROW / 2;
/// Rows of a warpgroup.
const ROWS: u32 = 64;
/// Elements of depth of a product.
const STEP: u32 = Parts::GROUP as u32;
/// Parts of a factor.
const PARTS: u32 = Parts::COUNT as u32;

impl Bf16x3 {
    fn threads(&self) -> u32 {
        128 * (self.bm / ROWS)
    }

    /// Registers of a thread, as `ptxas` was seen to take them at most.
    fn registers(&self) -> u32 {
        112 + Sums::registers(self.bn, PARTS, 1)
    }

    /// Of the rows, and of a part of the columns.
    fn layouts(&self, f: &Facts) -> [Layout; 2] {
        [(f.directions[0], self.bm, 4), ((Along::Depth, 8), self.bn, 2)]
            .map(|(direction, lines, element)| Layout::for_matrices(direction, lines, DEPTH, element))
    }

    fn stage(&self) -> u32 {
        (2 * self.bm + PARTS * self.bn) * ROW
    }

    /// How blocks that share the depth share out its sums, where they are a cluster.
    fn shares(&self, f: &Facts) -> Option<Shares> {
        let clusters = f.clusters(f.tiles([self.bm, self.bn]), self.split);
        Shares::of(self.split, (16, self.bn), [self.bm, self.bn], (self.stages * self.stage(), &f.arch)).filter(|_| clusters)
    }

    fn rounds(&self, f: &Facts) -> u32 {
        f.size.k.div_ceil(DEPTH).div_ceil(self.split)
    }

    fn fits(&self, f: &Facts) -> bool {
        let reads = f.arch.groups > 0.0 && f.in_parts();
        if !reads || !f.small || f.directions[0].0 != Along::Depth {
            return false;
        }
        let (threads, rounds) = (self.threads(), self.rounds(f));
        f.shared_out([self.bm, self.bn], (rounds, DEPTH), self.split)
            && self.layouts(f).iter().all(|l| l.fits(threads))
            && (self.stages == 3 || self.stages - 3 < rounds)
            && (self.stages * self.stage() + 16) as usize <= f.arch.shared
    }

    /// As for `wgmma`: rows are taken apart beside products, whichever takes longer; fitted to measured landscapes.
    fn estimate(&self, f: &Facts) -> f64 {
        let tiles = f.tiles([self.bm, self.bn]);
        let resident = f64::from(f.arch.resident(
            self.threads(),
            self.registers(),
            self.stages * self.stage() + Meeting::beside(self.shares(f), [self.bm, self.bn]),
        ));
        let warps = f64::from(self.threads() / 32);
        // Tensor cores take rows from registers before they multiply, which nothing hides.
        let step: f64 = Sums::widths(self.bn, PARTS).iter().map(|&n| f64::from(ROWS * STEP * n) / f.arch.groups + 9.2).sum();
        let products = f64::from(self.bm / ROWS * (DEPTH / STEP)) * step;
        let [rows, columns] = self.layouts(f).map(|l| f64::from(l.lines * l.depth / l.vector) / f64::from(self.threads()));
        let per_copy = if f.directions[0].1 == 1 { 30.0 } else { f.per_copy };
        let copies = rows * per_copy + columns * f64::from(PARTS) * 6.3;
        let own = 7.2 * f64::from(DEPTH / 2) + 13.5 * f64::from(self.bn / 2);
        let issue = warps * (own + copies + 120.0) / 4.0;
        let cache = f64::from(self.stage()) / 43.0;
        let alone = (0.95 * products).max(1.2 * own) + 0.35 * copies + 165.0;
        let memory = (1200.0 + cache) / f64::from(self.stages - 2);
        let rounds = f64::from(self.rounds(f));
        let epilogue = (8.0 + f.epilogue / 4.0) * f64::from(self.bm * self.bn) / 32.0;
        let wave = |blocks: f64| {
            let slowest = [blocks * products, blocks * issue, blocks * cache, alone, memory].into_iter().fold(0.0, f64::max);
            rounds * (slowest + blocks * 0.065 * (issue + cache)) + 1730.0 + blocks * epilogue
        };
        f.time((tiles, self.split), (resident, self.shares(f).is_some()), self.bm * self.bn, wave)
    }
}

/// Begins the products of a tile, its columns in shared memory at `start` on, parts so many bytes apart.
fn multiply(k: &mut Writer, sums: &Sums, (fragments, stage): (&Fragments, Val), (start, apart): (Val, u32)) {
    let (bases, steps) = (fragments.in_stage(k, stage), DEPTH / STEP);
    let columns = descriptor(k, start, 0);
    let tile: Vec<Vec<Val>> = (0..2 * steps).map(|step| fragments.read(k, &bases, step, 0)).collect();
    for at in 0..steps {
        if at == 0 {
            // The first products of the tile before have read these registers.
            k.wait_products(steps - 1);
        }
        let rows = Mode::Parts.words(k, Side::Rows, &tile[2 * at as usize..][..2], false);
        if at == 0 {
            k.wait_products(0);
            sums.gather(k, 0);
        }
        let columns = k.plus(columns, i64::from((at * 2 * STEP) >> 4));
        k.fence_products();
        (0..).zip(&rows).for_each(|(part, rows)| sums.multiply(k, Mode::Parts, (part, rows, 0), (columns, apart)));
        k.commit_products();
    }
}

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn bf16x3(p: &Product, s: &Bf16x3, arch: &Arch) -> Result<Kernel, Unsupported> {
    let c = &p.contraction;
    let (facts, roles) = (Facts::of(p, arch), c.roles());
    if !s.legal(&facts) {
        return Err(Unsupported(format!("{s} does not fit a contraction of {} over {:?}", c.dtype, c.space)));
    }
    let parts = parts(&roles);
    let (size, threads) = (facts.size, s.threads());
    let [rows, _] = sources(c, WeightLayout::Dense);
    let (sources, layouts) = ([rows, source_of_parts(&parts)], s.layouts(&facts));
    let (extents, shared, panels) = ([s.bm, s.bn], s.stages * s.stage(), Panels::Parts);
    let (split, shares) = (s.split, s.shares(&facts));
    let by_lane = by_lane(c.out.dtype, &size, layouts[1].along, shares.as_ref().map_or(s.bn, |shares| s.bn / shares.columns));
    let tiling = Tiling { size, layouts: &layouts, extents, split, threads, shared, cluster: 1, copied: 2, panels, shares, by_lane };
    let mut k = Writer::for_arch(arch);
    k.in_parts(&parts);
    let place = tiling.place(&mut k, &sources, arch);
    let Place { thread, batch, starts, .. } = place;
    let (warp, lane) = k.warp(thread);
    // Warps have sixteen rows each, and so have warpgroups four of them.
    let row = k.scaled(warp, 16);
    let fragments = Fragments::new(&mut k, layouts[0], Side::Rows, (lane, row, 16), starts[0], false);
    let sums = Sums::new(&mut k, s.bn, PARTS, 1);

    let readers = Readers::Both;
    let depth = Depth { stages: s.stages, elements: DEPTH, rounds: s.rounds(&facts), total: size.k, rounded: false, readers };
    let first = place.first(&mut k, &depth);
    let consume = |k: &mut Writer, _: Val, reading: Val| {
        let start = k.add(starts[1], reading);
        multiply(k, &sums, (&fragments, reading), (start, s.bn * ROW));
    };
    place.stream(&mut k, &depth, (first, s.split), (p.layout, None), consume);
    let sums = sums.total(&mut k);

    let firsts = [k.add(place.firsts[0], row), place.firsts[1]];
    let (sources, across, depth, total) = (&sources, s.bn / 8, depth.rounds * DEPTH, size.k);
    let again = Tile { sources, batch, firsts, across, lane, first, depth, patch: None, runs: None, total, parts: Some(&parts), by_lane };
    repair(&mut k, &again, &sums);
    let ahead = if threads > 128 { 4 } else { 8 };
    let grid = tiling.grid((c, &roles), (batch, lane), firsts, [16, s.bn, ROWS], ahead);
    grid.finish(k, "bf16x3", &tiling.partial(&place, c.extras.len()), &sums)
}
