//! Convolutions whose windows overlap, by products of warpgroups: a block copies what the windows of its tile read of an image once (their halo).
//! Eight neighbouring windows are eight rows of a descriptor, and a position of a window is another address in it. All that a block multiplies is in
//! shared memory at once, so that nothing waits for tiles to be free again.

use super::Unsupported;
use super::blocks::by_lane;
use super::columns::Columns;
use super::exact::{Tile, repair};
use super::factors::{parts, source_of_parts, sources};
use super::grid::Grid;
use super::mma::Product;
use super::overlap::{Facts, Windows};
use super::partial::{Meeting, Partial, Shares};
use super::patches::{Patches, Pixels};
use super::products::Mode;
use super::sums::Sums;
use super::tile::Along;
use crate::arch::Arch;
use crate::dsl::Writer;
use crate::layout::{ROW, Rows, descriptor, descriptor_of_rows};
use crate::ptx::{Kernel, Op, Special, Ty};
use crate::schedule::{Schedule, schedule};
use std::ops::Range;

schedule! {
    /// How a convolution is computed by warpgroups from what its windows share.
    Halo(Product => Facts) = "halo" {
        /// Rows of eight windows of a block's tile.
        rows: [8, 16],
        /// Columns of the product.
        bn: [16, 32, 64, 128],
        /// Warpgroups that share the columns.
        halves: [1, 2],
        /// Groups of channels, which arrive one after another.
        groups: [1, 2, 4, 8],
        /// Blocks that share the channels.
        split: [1, 2, 4, 8],
    }
}

/// Columns of windows of a tile: the rows that lie together in a descriptor.
const ACROSS: u32 = 8;
/// Bytes of depth of a product.
const STEP: u32 = 32;
/// Lists of the latest sums that take turns.
const TURNS: usize = 2;

impl Halo {
    fn threads(&self) -> u32 {
        128 * (self.rows / 8) * self.halves
    }

    fn bm(&self) -> u32 {
        self.rows * ACROSS
    }

    /// Columns of a warpgroup.
    fn wn(&self) -> u32 {
        self.bn / self.halves
    }

    /// Channels of a group.
    fn depth(&self, w: &Windows) -> u32 {
        w.run / (self.split * self.groups)
    }

    /// What a block reads of an image.
    fn patches(&self, f: &Facts, w: &Windows) -> Patches {
        let [sy, sx] = w.image.steps;
        let extents = [(self.rows - 1) * sy + w.reach[0] + 1, (ACROSS - 1) * sx + w.reach[1] + 1];
        let beside = if self.split > 1 { Meeting::bytes([self.bm(), self.bn]) } else { 0 };
        let room = (f.of.arch.shared as u32).saturating_sub(self.columns(f, w).1 + beside + 16);
        Patches::new(extents, (self.depth(w), self.groups), (f.stored(), f.planes()), (Pixels::Panels(sx), self.threads())).within(room)
    }

    /// Bytes of shared memory of a panel of the columns of all pieces, and of all of them.
    fn columns(&self, f: &Facts, w: &Windows) -> (u32, u32) {
        let panel = w.taps.len() as u32 * f.planes() * self.bn * ROW;
        let panels = (self.groups * self.depth(w) * f.stored()).div_ceil(ROW);
        (panel, panels * panel)
    }

    fn bytes(&self, f: &Facts, w: &Windows) -> u32 {
        self.columns(f, w).1 + self.patches(f, w).bytes()
    }

    /// How blocks that share the channels share out the sums, where they are a cluster.
    fn shares(&self, f: &Facts, w: &Windows) -> Option<Shares> {
        let tiles = self.tiles(f, w).iter().product::<u32>() * w.images;
        let clusters = f.of.clusters(tiles, self.split);
        Shares::of(self.split, (16, self.wn()), [self.bm(), self.bn], (self.bytes(f, w), &f.of.arch)).filter(|_| clusters)
    }

    /// Tiles down, across and of columns of the product.
    fn tiles(&self, f: &Facts, w: &Windows) -> [u32; 3] {
        w.tiles([self.rows, ACROSS], (f.of.size.n, self.bn))
    }

    /// Registers of a thread.
    fn registers(&self, f: &Facts, w: &Windows) -> u32 {
        72 + Sums::registers(self.wn(), f.planes(), TURNS as u32) + self.patches(f, w).copies()
    }

    /// Steps of a warpgroup.
    fn steps(&self, f: &Facts, w: &Windows) -> u32 {
        self.groups * w.taps.len() as u32 * self.depth(w) * f.stored() / STEP
    }

    fn fits(&self, f: &Facts) -> bool {
        let Some(w) = f.windows.as_ref().filter(|w| f.of.arch.groups > 0.0 && f.readable() && !w.packed) else { return false };
        let group = self.depth(w) * f.stored();
        let shared_out = w.run.is_multiple_of(self.split * self.groups) && group.is_multiple_of(STEP) && ROW.is_multiple_of(group);
        if !shared_out || self.wn() < 16 || w.image.steps[1] > 2 || self.rows >= 2 * w.counts[0].next_multiple_of(8) {
            return false;
        }
        let (shared, threads) = (self.bytes(f, w), self.threads());
        self.patches(f, w).fits()
            && threads * (40 + Sums::registers(self.wn(), f.planes(), TURNS as u32)) <= 65536
            && self.steps(f, w) as usize * Sums::widths(self.wn(), f.planes()).len() <= 512
            && (threads / (group / 16)).is_multiple_of(Rows::PERIOD)
            && (shared + 16) as usize <= f.of.arch.shared
            && self.blocks(f, w) < 1 << 24
    }

    fn blocks(&self, f: &Facts, w: &Windows) -> u64 {
        self.tiles(f, w).iter().map(|&n| u64::from(n)).product::<u64>() * u64::from(w.images * self.split)
    }

    /// Whether blocks that come early crowd on the multiprocessors that are free, where several find place: measured to take longer where they
    /// read more than one pixel a window, but not in clusters of four.
    fn crowds(&self, f: &Facts, w: &Windows) -> bool {
        w.taps.len() > 1 && (self.split < 4 || self.shares(f, w).is_none())
    }

    /// Whether each finds a multiprocessor of its own, so that they need not crowd if none lets a second in.
    fn spreads(&self, f: &Facts, w: &Windows) -> bool {
        self.blocks(f, w) <= u64::from(f.of.arch.sms)
    }

    /// Bytes of shared memory that a block asks for: half of what there is keeps a second one out.
    fn claims(&self, f: &Facts, w: &Windows) -> u32 {
        let alone = if self.crowds(f, w) && self.spreads(f, w) { f.of.arch.shared as u32 / 2 } else { 0 };
        self.bytes(f, w).max(alone)
    }

    /// What arrives, what copies take to issue, and products, which hide little of each other; fitted to measured landscapes.
    fn estimate(&self, f: &Facts) -> f64 {
        let Some(w) = &f.windows else { return f64::INFINITY };
        let (shared, threads, patches) = (self.bytes(f, w), self.threads(), self.patches(f, w));
        let shares = self.shares(f, w);
        let beside = Meeting::beside(shares, [self.bm(), self.bn]);
        let resident = f64::from(f.of.arch.resident(threads, self.registers(f, w), shared + beside));
        let (warpgroups, groups, taps) = (f64::from(threads / 128), f64::from(self.groups), w.taps.len() as u32);
        // Tensor cores read both factors from shared memory, 128 bytes a cycle.
        let product = |n: u32| (f64::from(64 * 16 * n) / f.of.arch.groups).max(f64::from((64 + n) * STEP) / 128.0) + 0.5;
        let step: f64 = Sums::widths(self.wn(), f.planes()).into_iter().map(product).sum();
        let products = warpgroups * f64::from(self.steps(f, w)) * step;
        // Pieces of 16 bytes; short ones of a line of 128 take as long as longer ones.
        let group = self.depth(w) * f.stored();
        let rows = f64::from(patches.count() * f.planes() * self.groups * group / 16);
        let columns = f64::from(taps * self.bn * f.planes() * self.groups * group / 16);
        let arrives = (rows + columns) * 16.0 / 43.0 * 0.2 * f64::from(ROW / group);
        let issue = (rows + columns) * 11.3 / 128.0;
        let epilogue = (2.0 + f.of.epilogue / 4.0) * f64::from(self.bm() * self.bn) / 32.0;
        // Rows that are converted are waited for, group by group.
        let (waited, converting) = match f.of.mode {
            Some(Mode::Half(_)) => (0.0, 0.0),
            mode => (250.0 + 110.0 * groups, rows * if mode == Some(Mode::Parts) { 4.0 } else { 12.0 } / 128.0),
        };
        let gathers = if f.planes() > 1 { self.steps(f, w) * STEP / f.stored() / Sums::GATHERED } else { 0 };
        let gathered = 20.0 * f64::from(gathers);
        let first = if shares.is_some() { 1750.0 } else { 2250.0 };
        let wave = |blocks: f64| first + waited + gathered + blocks * (arrives + issue + converting + products + epilogue);
        let tiles = self.tiles(f, w).iter().product::<u32>() * w.images;
        f.of.time((tiles, self.split), (resident, shares.is_some()), self.bm() * self.bn, wave)
    }
}

/// The positions of a window in three parts, as far as there are so many.
fn thirds(taps: u32) -> impl Iterator<Item = Range<u32>> {
    let parts = taps.min(3);
    (0..parts).map(move |part| part * taps / parts..(part + 1) * taps / parts)
}

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn halo(p: &Product, s: &Halo, arch: &Arch) -> Result<Kernel, Unsupported> {
    let c = &p.contraction;
    let facts = Facts::of(p, arch);
    let (Some(w), Some(mode)) = (facts.windows.as_ref().filter(|_| s.legal(&facts)), facts.of.mode) else {
        return Err(Unsupported(format!("{s} does not fit a contraction of {} over {:?}", c.dtype, c.space)));
    };
    let (roles, size, planes) = (c.roles(), facts.of.size, facts.planes());
    let mut k = Writer::for_arch(arch);
    k.fast = c.out.dtype.bytes() == 2;
    let (mut sources, in_parts) = (sources(c, p.layout), parts(&roles));
    if mode == Mode::Parts {
        k.in_parts(&in_parts);
        sources[1] = source_of_parts(&in_parts);
    }
    let weights = w.columns(&sources[1], (size.n, planes), (s.bn, s.halves));
    let (bm, threads, depth, taps) = (s.bm(), s.threads(), s.depth(w), w.taps.len() as u32);
    let (panel, columns_bytes) = s.columns(&facts, w);
    let shares = s.shares(&facts, w);
    let by_lane = by_lane(c.out.dtype, &size, Along::Depth, shares.as_ref().map_or(s.wn(), |shares| s.wn() / shares.columns));

    let block = k.op(Ty::U32, Op::Special(Special::Block), &[]);
    let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
    let (tile, part) = k.div_rem(block, s.split);
    let tiles = s.tiles(&facts, w);
    let (beside, patch) = w.patch(&mut k, tile, tiles, [s.rows, ACROSS]);
    let column = k.scaled(beside, i64::from(s.bn));
    let start = k.shared(s.claims(&facts, w));
    let cluster = shares.map(|shares| {
        k.cluster(s.split);
        (shares, Meeting::prepare(&mut k, thread, [bm, s.bn]))
    });

    let group_bytes = depth * facts.stored();
    let columns = Columns::new(&mut k, &weights, (thread, threads), beside, (taps * planes * s.bn, group_bytes), by_lane, start);
    let channel = k.scaled(part, i64::from(w.run / s.split));
    // Products of the first positions begin before the columns of all others have come.
    let arrivals: Vec<(u32, Range<u32>)> = (0..s.groups).flat_map(|group| thirds(taps).map(move |taps| (group, taps))).collect();
    let copy_columns = |k: &mut Writer, (group, taps): &(u32, Range<u32>)| {
        let lines = taps.start * planes * s.bn..taps.end * planes * s.bn;
        let (at, byte) = (k.plus(channel, i64::from(group * depth)), group * group_bytes);
        columns.copy(k, at, (byte / ROW * panel, byte % ROW), (&lines, group_bytes));
    };
    let pixels = k.plus(start, i64::from(columns_bytes));
    let patches = s.patches(&facts, w);
    let reads = patches.begin(&mut k, (c, mode), &w.image, thread, (patch.image, patch.corner, channel), pixels);
    k.constant_param(1);
    copy_columns(&mut k, &arrivals[0]);
    k.wait_dependencies();
    for (i, arrival) in arrivals.iter().enumerate() {
        if i > 0 {
            copy_columns(&mut k, arrival);
        }
        if arrival.1.start == 0 {
            reads.copy(&mut k, arrival.0);
        }
        k.commit_copies();
    }

    let (warp, lane) = k.warp(thread);
    let (warpgroup, quarter) = k.div_rem(warp, 4);
    let (eights, half) = k.div_rem(warpgroup, s.halves);
    let own_column = k.scaled(half, i64::from(s.wn()));
    let moved = k.scaled(eights, i64::from(patches.eight(8 * w.image.steps[0])));
    let a = k.add(pixels, moved);
    let a = descriptor_of_rows(&mut k, a, 0, patches.eight(w.image.steps[0]));
    let moved = k.scaled(half, i64::from(planes * s.wn() * ROW));
    let b = k.add(start, moved);
    let b = descriptor(&mut k, b, 0);

    let sums = Sums::new(&mut k, s.wn(), planes, TURNS as u32);
    // Elements of depth that the latest sums hold, the list of them whose turn it is, and whether products were added to the other.
    let (mut latest, mut turn, mut before) = (0, 0, false);
    for (behind, (group, taps)) in (0..arrivals.len() as u32).rev().zip(arrivals) {
        k.wait_copies(behind);
        k.fence_proxy();
        k.barrier();
        let mut fenced = false;
        let byte = group * group_bytes;
        for (tap, step) in taps.flat_map(|tap| (0..group_bytes / STEP).map(move |step| (tap, step))) {
            if !fenced {
                k.fence_products();
                fenced = true;
            }
            let line = byte / ROW * panel + tap * planes * s.bn * ROW + byte % ROW + STEP * step;
            let b = k.plus(b, i64::from(line >> 4));
            for part in 0..planes {
                let pixel = patches.place(w.taps[tap as usize], (group, step), part);
                let a = k.plus(a, i64::from(pixel >> 4));
                sums.multiply(&mut k, mode, (part, &[a], turn), (b, s.wn() * ROW));
            }
            latest += STEP / facts.stored();
            if planes > 1 && latest >= Sums::GATHERED {
                k.commit_products();
                let other = (turn + 1) % TURNS;
                if before {
                    k.wait_products(1);
                    sums.gather(&mut k, other);
                    fenced = false;
                }
                (latest, turn, before) = (0, other, true);
            }
        }
    }
    if latest > 0 {
        k.commit_products();
    }
    k.wait_products(0);
    let sums = sums.total(&mut k);

    let whole = w.counts[0].is_multiple_of(s.rows) && w.counts[1].is_multiple_of(ACROSS);
    let patch = Some(patch);
    let (above, row) = (k.scaled(eights, 64), k.scaled(quarter, 16));
    let (batch, firsts) = (k.int(0, Ty::U32), [k.add(above, row), k.add(column, own_column)]);
    if mode == Mode::Parts {
        let (own, depth) = (w.run / s.split, size.k / s.split);
        let runs = (s.split > 1).then_some((own, w.run));
        let (sources, across) = (&sources, s.wn() / 8);
        let tile = Tile {
            sources,
            batch,
            firsts,
            patch,
            across,
            lane,
            first: channel,
            depth,
            runs,
            total: size.k,
            parts: Some(&in_parts),
            by_lane,
        };
        repair(&mut k, &tile, &sums);
    }
    let tiles = tiles.iter().product::<u32>() * w.images;
    let operands = 3 + c.extras.len() as u32;
    let partial = Partial { split: s.split, threads, operands, tiles, tile, part, thread, cluster };
    let grid = Grid {
        c,
        roles: &roles,
        rows: 16,
        columns: s.wn(),
        apart: 64,
        firsts,
        patch,
        batch,
        lane,
        by_lane,
        ahead: if threads > 256 { 4 } else { 8 },
        whole: (whole, size.n.is_multiple_of(s.bn)),
    };
    let kernel = grid.finish(k, "halo", &partial, &sums)?;
    Ok(if s.crowds(&facts, w) && !s.spreads(&facts, w) { kernel.alone() } else { kernel })
}
