//! Strict `f32` contractions by products of warpgroups whose second factor is a weight that was taken apart when the plan was loaded: two
//! halves of each factor, three products (see [`halves`]). A warp takes its rows apart in registers while tensor cores multiply the depths
//! before. Where all of a row is too small for halves, and where sums are not finite, the block computes its tile again in `f32`.

use super::Unsupported;
use super::blocks::{Depth, Panels, Place, Tiling, by_lane};
use super::exact::{Tile, repair};
use super::factors::{parts, source_of_parts, sources};
use super::fragments::{Fragments, Side};
use super::grid::Grid;
use super::mma::{Facts, Product};
use super::partial::{Meeting, Shares};
use super::pipeline::Readers;
use super::products::Words;
use super::tile::{Along, Layout};
use crate::arch::Arch;
use crate::dsl::{GroupMma, Val, Writer};
use crate::layout::{ROW, descriptor};
use crate::ptx::{Cmp, Factor, Half, Kernel, MemTy, Op, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::{Parts, Split, WeightLayout, halves};

schedule! {
    /// How a contraction in strict `f32` with a weight is computed by warpgroups.
    F16x2(Product => Facts) = "f16x2" {
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
const PARTS: u32 = Split::F16x2.count() as u32;

impl F16x2 {
    fn threads(&self) -> u32 {
        128 * (self.bm / ROWS)
    }

    /// Registers of a thread, as `ptxas` was seen to take them at most.
    fn registers(&self) -> u32 {
        128 + 3 * self.bn / 2
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
        Shares::of(self.split, (16, self.bn), [self.bm, self.bn], (self.stages * self.stage(), &f.arch))
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

    /// As for `wgmma`: rows are taken apart beside products, whichever takes longer.
    fn estimate(&self, f: &Facts) -> f64 {
        let tiles = f.size.batch * f.size.m.div_ceil(self.bm) * f.size.n.div_ceil(self.bn);
        let resident = f64::from(f.arch.resident(
            self.threads(),
            self.registers(),
            self.stages * self.stage() + Meeting::beside(self.shares(f), [self.bm, self.bn]),
        ));
        let warps = f64::from(self.threads() / 32);
        // Tensor cores take rows from registers before they multiply, which nothing hides.
        let products = 3.0 * f64::from(self.bm / ROWS * (DEPTH / STEP)) * (f64::from(ROWS * STEP * self.bn) / f.arch.groups + 8.0);
        let [rows, columns] = self.layouts(f).map(|l| f64::from(l.lines * l.depth / l.vector) / f64::from(self.threads()));
        let per_copy = if f.directions[0].1 == 1 { 30.0 } else { f.per_copy };
        let copies = rows * per_copy + columns * f64::from(PARTS) * 7.2;
        let own = 7.0 * f64::from(DEPTH / 2) + 1.5 * f64::from(self.bn / 2);
        let issue = warps * (own + copies + 120.0) / 4.0;
        let cache = f64::from(self.stage()) / 43.0;
        let alone = (1.1 * products).max(1.6 * own) + 0.8 * copies + 200.0;
        let memory = (1500.0 + cache) / f64::from(self.stages - 2);
        let rounds = f64::from(self.rounds(f));
        let epilogue = (1.9 + f.epilogue / 4.0) * f64::from(self.bm * self.bn) / 32.0;
        let wave = |blocks: f64| {
            let slowest = [blocks * products, blocks * issue, blocks * cache, alone, memory].into_iter().fold(0.0, f64::max);
            rounds * (slowest + blocks * 0.065 * (issue + cache)) + 1700.0 + blocks * epilogue
        };
        f.time((tiles, self.split), (resident, self.shares(f).is_some()), self.bm * self.bn, wave)
    }
}

/// What a warp adds up.
struct Sums {
    /// Products of the largest parts, of all tiles before.
    all: Vec<Val>,
    /// Those of the current tile: the little that tensor cores cut off at every addition adds up in one tile alone.
    tile: Vec<Val>,
    /// Products of a largest part and a raised one, so small that what is cut off of their sums does not count.
    small: Vec<Val>,
    /// By row of a lane: all its bits, and those of its largest parts.
    rows: [[Val; 2]; 2],
}

impl Sums {
    fn new(k: &mut Writer, count: u32) -> Self {
        let zero = k.float(0.0, Ty::F32);
        let [all, tile, small] = [(); 3].map(|()| (0..count).map(|_| k.variable(zero)).collect());
        let none = k.int(0, Ty::U32);
        let rows = [(); 2].map(|()| [k.variable(none), k.variable(none)]);
        Self { all, tile, small, rows }
    }

    fn add(&self, k: &mut Writer, more: &[Val]) {
        for (&sum, &x) in self.all.iter().zip(more) {
            k.update(sum, Op::Add, &[sum, x]);
        }
    }

    /// Begins the products of a tile, its columns in shared memory at `start` on, parts so many bytes apart; small ones of a step first.
    fn multiply(&self, k: &mut Writer, (fragments, stage): (&Fragments, Val), (start, apart): (Val, u32)) {
        let (bases, steps) = (fragments.in_stage(k, stage), DEPTH / STEP);
        let columns = [0, 1].map(|part: u32| {
            let at = k.plus(start, i64::from(part * apart));
            descriptor(k, at, 0)
        });
        let tile: Vec<Vec<Val>> = (0..2 * steps).map(|step| fragments.read(k, &bases, step, 0)).collect();
        for at in 0..steps {
            if at == 0 {
                // The first products of the tile before have read these registers.
                k.wait_products(steps - 1);
            }
            let rows = self.halves(k, &tile[2 * at as usize..][..2]);
            if at == 0 {
                k.wait_products(0);
                self.add(k, &self.tile);
            }
            k.fence_products();
            for smallness in (0..PARTS).rev() {
                for of_row in 0..=smallness {
                    let (sums, adds) = if smallness > 0 { (&self.small, true) } else { (&self.tile, at > 0) };
                    let b = k.plus(columns[(smallness - of_row) as usize], i64::from((at * 2 * STEP) >> 4));
                    k.group_mma((Factor::Half(Half::F16), GroupMma { adds, across: false }), sums, &rows[of_row as usize], b);
                }
            }
            k.commit_products();
        }
    }

    /// Two steps of rows as words of two numbers each, those that a lane holds.
    fn halves(&self, k: &mut Writer, steps: &[Vec<Val>]) -> Words {
        let (raised, lowering) = (k.float(f64::from(halves::RAISED), Ty::F32), k.float(-f64::from(halves::RAISED), Ty::F32));
        let mut words: Words = vec![vec![]; 2];
        let rows = steps.iter().flat_map(|step| [0, 1].map(|row| ([step[row], step[row + 2]], self.rows[row])));
        for (pair, [bits, largest]) in rows {
            let numbers = pair.map(|word| k.op(Ty::F32, Op::Bits(Ty::U32), &[word]));
            let first = k.op(Ty::U32, Op::Pack(Half::F16), &[numbers[1], numbers[0]]);
            let left = [(Op::LowHalf, numbers[0]), (Op::HighHalf, numbers[1])].map(|(part, x)| {
                let half = k.op(Ty::B16, part, &[first]);
                let nearest = k.op(Ty::F32, Op::FromHalf, &[half]);
                let x = k.mul(x, raised);
                k.fma(nearest, lowering, x)
            });
            words[0].push(first);
            words[1].push(k.op(Ty::U32, Op::Pack(Half::F16), &[left[1], left[0]]));
            pair.into_iter().for_each(|word| k.update(bits, Op::Or, &[bits, word]));
            k.update(largest, Op::Or, &[largest, first]);
        }
        words
    }

    /// Whether all of a row is below 2^-17, where halves hold less than 19 bits of it, and not zero.
    fn too_small(&self, k: &mut Writer) -> Val {
        let zero = k.int(0, Ty::U32);
        let rows = self.rows.map(|row| {
            let [bits, largest] = row.map(|own| {
                [1, 2].into_iter().fold(own, |all, mask| {
                    let other = k.op(Ty::U32, Op::ShuffleXor(mask), &[all]);
                    k.op(Ty::U32, Op::Or, &[all, other])
                })
            });
            let [bits, largest] = [(bits, 0x7fff_ffff), (largest, 0x7f80_7f80)].map(|(all, mask)| {
                let mask = k.int(mask, Ty::U32);
                k.op(Ty::U32, Op::And, &[all, mask])
            });
            let [some, none] = [k.compare(Cmp::Lt, zero, bits), k.compare(Cmp::Eq, largest, zero)];
            k.op(Ty::Pred, Op::And, &[some, none])
        });
        k.op(Ty::Pred, Op::Or, &rows)
    }

    /// All sums of columns that were scaled.
    fn gather(&self, k: &mut Writer) -> Vec<Val> {
        let lowered = k.float(f64::from(1.0 / halves::RAISED), Ty::F32);
        self.add(k, &self.tile);
        for (&sum, &small) in self.all.iter().zip(&self.small) {
            k.update(sum, Op::Fma, &[small, lowered, sum]);
        }
        self.all.clone()
    }
}

/// What the sums of a lane's columns are scaled back by, two for 8 columns.
fn scales(k: &mut Writer, parts: &Parts, batch: Val, first: Val, (lane, across, by_lane): (Val, u32, bool)) -> Vec<Val> {
    let matrix = k.scaled(batch, parts.scales() as i64);
    let begin = k.add(matrix, first);
    let begin = k.plus(begin, parts.scales_at().unwrap_or_default() as i64 / 4);
    let (_, t) = k.div_rem(lane, 4);
    let own = k.scaled(t, if by_lane { 8 } else { 2 });
    let own = k.add(begin, own);
    let pair = |group: u32| if by_lane { group / 4 * 32 + group % 4 * 2 } else { group * 8 };
    (0..across)
        .flat_map(|group| {
            let at = k.plus(own, i64::from(pair(group)));
            let from = k.element(parts.argument, at, 4);
            k.load(MemTy::F32, Ty::F32, from, 2)
        })
        .collect()
}

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn f16x2(p: &Product, s: &F16x2, arch: &Arch) -> Result<Kernel, Unsupported> {
    let c = &p.contraction;
    let (facts, roles) = (Facts::of(p, arch), c.roles());
    if !s.legal(&facts) {
        return Err(Unsupported(format!("{s} does not fit a contraction of {} over {:?}", c.dtype, c.space)));
    }
    let parts = parts(&roles, Split::F16x2);
    let (size, threads) = (facts.size, s.threads());
    let [rows, _] = sources(c, WeightLayout::Dense);
    let (sources, layouts) = ([rows, source_of_parts(&parts)], s.layouts(&facts));
    let (extents, shared, panels) = ([s.bm, s.bn], s.stages * s.stage(), Panels::Parts(Split::F16x2));
    let (split, shares) = (s.split, s.shares(&facts));
    let by_lane = by_lane(&size, &layouts[1], shares.as_ref().map_or(s.bn, |shares| s.bn / shares.columns));
    let tiling = Tiling { size, layouts: &layouts, extents, split, threads, shared, cluster: 1, copied: 2, panels, shares, by_lane };
    let mut k = Writer::for_arch(arch);
    k.in_parts(parts);
    let place = tiling.place(&mut k, &sources, arch);
    let Place { thread, batch, starts, .. } = place;
    let (warp, lane) = k.warp(thread);
    // Warps have sixteen rows each, and so have warpgroups four of them.
    let row = k.scaled(warp, 16);
    let fragments = Fragments::new(&mut k, layouts[0], Side::Rows, (lane, row, 16), starts[0], false);
    let sums = Sums::new(&mut k, s.bn / 2);
    let across = s.bn / 8;
    let scales = scales(&mut k, &parts, batch, place.firsts[1], (lane, across, by_lane));

    let readers = Readers::Both;
    let depth = Depth { stages: s.stages, elements: DEPTH, rounds: s.rounds(&facts), total: size.k, rounded: false, readers };
    let first = place.first(&mut k, &depth);
    let consume = |k: &mut Writer, _: Val, reading: Val| {
        let start = k.add(starts[1], reading);
        sums.multiply(k, (&fragments, reading), (start, s.bn * ROW));
    };
    place.stream(&mut k, &depth, (first, s.split), (p.layout, None), consume);
    let too_small = sums.too_small(&mut k);
    let sums = sums.gather(&mut k);

    let firsts = [k.add(place.firsts[0], row), place.firsts[1]];
    let depth = depth.rounds * DEPTH;
    let again = Tile { sources: &sources, batch, firsts, across, lane, first, depth, total: size.k, parts: Some(Split::F16x2), by_lane };
    repair(&mut k, &again, &sums, (starts[0], thread, threads), Some(too_small));
    for (i, &sum) in sums.iter().enumerate() {
        k.update(sum, Op::Mul, &[sum, scales[i / 4 * 2 + i % 2]]);
    }
    let ahead = if threads > 128 { 4 } else { 8 };
    let grid = Grid { c, roles: &roles, rows: 16, columns: s.bn, apart: ROWS, firsts, batch, lane, by_lane, ahead, whole: tiling.whole() };
    grid.finish(k, "f16x2", &tiling.partial(&place, c.extras.len()), &sums)
}
