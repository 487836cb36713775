//! Convolutions of few channels by steps of two pixels in strict `f32`, as the first layers of models are, by products of warpgroups: factors as
//! sums of three bfloat16 parts (see [`Mode::Parts`]). Two pixels of four channels are 16 bytes of a part, so that neighbouring windows begin 16
//! bytes apart, as rows of a matrix do that is not exchanged: windows are read where an image's pixels lie, once for all of them.

use super::Unsupported;
use super::affine::{Check, Linear};
use super::blocks::by_lane;
use super::columns::Columns;
use super::exact::{Tile, repair};
use super::factors::{Size, parts, source_of_parts, sources};
use super::grid::{Grid, Patch};
use super::images::Sides;
use super::mma::{self, Product};
use super::overlap::Windows;
use super::partial::Partial;
use super::patches::Image;
use super::products::{Mode, part_of};
use super::sums::Sums;
use super::tile::{Along, Source};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::layout::{ROW, descriptor, descriptor_of_matrices};
use crate::ptx::{Kernel, MemTy, Op, Special, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::Parts;
use wpk_plan::problem::{Contraction, Roles};

schedule! {
    /// How a convolution of few channels is computed by warpgroups.
    Pairs(Product => Facts) = "pairs" {
        /// Warpgroups, each with a tile of eight by eight windows, that share the columns.
        tiles: [1, 2, 3, 4],
        /// Columns of the product.
        bn: [16, 32, 64],
    }
}

/// Rows and columns of windows of a tile.
const SIDE: u32 = 8;
/// Threads of a warpgroup.
const GROUP: u32 = 128;
/// Elements of depth of a product: two pairs of pixels.
const STEP: u32 = Parts::GROUP as u32;
/// Elements of a pair of pixels.
const PAIR: u32 = 8;
/// Elements of depth of a line of columns.
const LINE: u32 = ROW / 2;
const PLANES: u32 = Parts::COUNT as u32;
/// Pairs that a thread loads at most.
const COPIES: u32 = 3;

/// What a schedule depends on.
pub struct Facts {
    of: mma::Facts,
    few: Option<Few>,
}

/// Windows on images of few channels.
struct Few {
    windows: Windows,
    channels: u32,
    /// Elements from a channel to the next.
    apart: i64,
    parts: Parts,
}

impl Few {
    fn of(c: &Contraction, roles: &Roles) -> Option<Self> {
        let sides = Sides::few(c, roles).filter(|_| roles.count(&roles.batch) == 1)?;
        let image = Image::of(c, &sides)?;
        let (column, beside) = sides.columns.taps?;
        let (down, by) = sides.rows.taps.map_or((1, 1), |(row, by)| (c.space[row] as u32, by as u32));
        let across = c.space[column] as u32;
        // A channel's place is an offset of a load.
        let near = (sides.channels as i64).checked_mul(4 * sides.apart).is_some_and(|bytes| i32::try_from(bytes).is_ok());
        if beside != 1 || image.steps[1] != 2 || !near {
            return None;
        }
        let run = (across * PAIR / 2).next_multiple_of(STEP);
        let apart = |l: usize| match l {
            _ if l == column => Some(PAIR / 2),
            _ if l == sides.channel => Some(1),
            _ if sides.rows.taps.is_some_and(|t| t.0 == l) => Some(run),
            _ => (c.space[l] == 1).then_some(0),
        };
        let order: Option<Vec<(usize, usize)>> = roles.k().into_iter().map(|l| Some((c.space[l], apart(l)? as usize))).collect();
        let taps: Vec<[u32; 2]> = (0..down).map(|row| [row * by, 0]).collect();
        let windows = Windows {
            images: sides.image.count(c) as u32,
            counts: [sides.rows.count(c) as u32, sides.columns.count(c) as u32],
            reach: [taps.last()?[0], across - 1],
            taps,
            run,
            packed: true,
            image,
        };
        let parts = Parts { loops: order?, ..parts(roles) };
        Some(Self { windows, channels: sides.channels as u32, apart: sides.apart, parts })
    }

    /// Elements of depth.
    fn depth(&self) -> u32 {
        self.windows.taps.len() as u32 * self.windows.run
    }

    /// Lines of depth that a column takes.
    fn lines(&self) -> u32 {
        self.depth().div_ceil(LINE)
    }

    /// Rows of an image that a tile reads, and pairs of pixels of each.
    fn extents(&self) -> [u32; 2] {
        let w = &self.windows;
        [(SIDE - 1) * w.image.steps[0] + w.reach[0] + 1, SIDE - 1 + w.run / PAIR]
    }

    /// Bytes of a part of what the threads of a warpgroup copy, all of them as often as the first.
    fn plane(&self) -> u32 {
        self.copies() * GROUP * 2 * PAIR
    }

    /// Pairs that a thread copies.
    fn copies(&self) -> u32 {
        self.extents().iter().product::<u32>().div_ceil(GROUP)
    }
}

impl Facts {
    fn of(p: &Product, arch: &Arch) -> Self {
        let of = mma::Facts::of(p, arch);
        let few = Few::of(&p.contraction, &p.contraction.roles()).filter(|_| of.small && of.in_parts() && arch.groups > 0.0);
        Self { of, few }
    }
}

impl Pairs {
    fn threads(&self) -> u32 {
        GROUP * self.tiles
    }

    /// Bytes of the columns.
    fn columns(&self, few: &Few) -> u32 {
        few.lines() * PLANES * self.bn * ROW
    }

    fn shared(&self, few: &Few) -> u32 {
        self.columns(few) + self.tiles * PLANES * few.plane()
    }

    /// Tiles down and across all images, and how many blocks have them by how many of columns.
    fn grid(&self, f: &Facts, few: &Few) -> ([u32; 2], [u32; 2]) {
        let [down, across, beside] = few.windows.tiles([SIDE; 2], (f.of.size.n, self.bn));
        ([down, across], [(down * across * few.windows.images).div_ceil(self.tiles), beside])
    }

    /// Lists of the latest sums that take turns: where other warpgroups multiply meanwhile, one may be waited for.
    fn lists(&self) -> u32 {
        if self.tiles > 2 { 1 } else { 2 }
    }

    /// Registers of a thread, as `ptxas` was seen to take them at most.
    fn registers(&self, few: &Few) -> u32 {
        (16 + Sums::registers(self.bn, PLANES, self.lists())).max(52 + 8 * few.copies())
    }

    fn fits(&self, f: &Facts) -> bool {
        let Some(few) = &f.few else { return false };
        few.copies() <= COPIES
            && self.registers(few) * self.threads() <= 65536
            && (self.shared(few) + 16) as usize <= f.of.arch.shared
            && self.grid(f, few).1.iter().map(|&n| u64::from(n)).product::<u64>() < 1 << 24
    }

    /// As for `halo`.
    fn estimate(&self, f: &Facts) -> f64 {
        let Some(few) = &f.few else { return f64::INFINITY };
        let (threads, tiles) = (self.threads(), f64::from(self.tiles));
        let resident = f64::from(f.of.arch.resident(threads, self.registers(few), self.shared(few)));
        let step: f64 = Sums::widths(self.bn, PLANES).iter().map(|&n| f64::from(64 * STEP * n) / f.of.arch.groups + 8.0).sum();
        let products = tiles * f64::from(few.depth() / STEP) * step;
        let columns = f64::from(few.lines() * PLANES * self.bn * ROW / 16);
        let pixels = f64::from(few.copies() * threads) * 2.0 * f64::from(few.channels);
        let copying = columns * 5.0 / 16.0 + pixels / 4.0;
        let epilogue = (2.0 + f.of.epilogue / 4.0) * tiles * f64::from(SIDE * SIDE * self.bn) / 32.0;
        let wave = |blocks: f64| 2600.0 + blocks * (copying + products + epilogue);
        let blocks = self.grid(f, few).1.iter().product();
        f.of.time((blocks, 1), (resident, false), self.tiles * SIDE * SIDE * self.bn, wave)
    }

    /// Where columns are copied from: those of a tile, part by part.
    fn weights(&self, size: &Size, parts: &Parts) -> Source {
        let source = source_of_parts(parts);
        let (bn, part, column) = (i64::from(self.bn), source.linear.per_loop[0], source.linear.per_loop[1]);
        let whole = size.n.is_multiple_of(self.bn);
        let checks = if whole { vec![] } else { vec![Check::below(size.n as usize, vec![bn, 0, 1, 0])] };
        let space = vec![size.n.div_ceil(self.bn) as usize, Parts::COUNT, self.bn as usize, parts.pitch()];
        let linear = Linear { base: 0, per_loop: vec![bn * column, part, column, 1], checks, space };
        Source { linear, batch: vec![0], lines: vec![1, 2], depth: vec![3], ..source }
    }
}

impl Few {
    /// Loads, takes apart and stores what a thread of a warpgroup copies of an image, where there is one.
    fn copy_pixels(&self, k: &mut Writer, (thread, start): (Val, Val), (patch, there): (&Patch, Val)) {
        let (i, extents) = (&self.windows.image, self.extents());
        let signed = |v: Val| Val { ty: Ty::S32, ..v };
        let begin = [0, 1].map(|side| {
            let moved = k.scaled(signed(patch.corner[side]), i64::from(i.steps[side]));
            k.plus(moved, i.first[side])
        });
        let image = k.scaled(signed(patch.image), i.strides[0]);
        let image = k.plus(image, i.base);
        // Loads of pixels that do not exist are of one that does, so that nothing branches between loads.
        let loaded: Vec<Vec<(Val, Val)>> = (0..self.copies())
            .map(|n| {
                let at = k.plus(thread, i64::from(n * GROUP));
                let (row, pair) = k.div_rem(at, extents[1]);
                let pair = k.scaled(pair, 2);
                let place = [k.add(begin[0], signed(row)), k.add(begin[1], signed(pair))];
                let moved = [0, 1].map(|side| k.scaled(place[side], i.strides[1 + side]));
                let own = k.add(image, moved[0]);
                let own = k.add(own, moved[1]);
                // As an unsigned number a negative index is beyond every extent.
                let unsigned = |v: Val| Val { ty: Ty::U32, ..v };
                let down = k.below(unsigned(place[0]), i64::from(i.extents[0]));
                let down = k.both(Some(there), Some(down)).unwrap_or(down);
                let mut values = vec![];
                for pixel in 0..2 {
                    let across = k.plus(place[1], pixel);
                    let inside = k.below(unsigned(across), i64::from(i.extents[1]));
                    let inside = k.both(Some(down), Some(inside)).unwrap_or(inside);
                    let from = k.plus(own, pixel * i.strides[2]);
                    let first = k.int(i.base, Ty::S32);
                    let from = k.select(inside, from, first);
                    let from = k.element(0, from, 4);
                    for channel in 0..i64::from(self.channels) {
                        let x = k.load_at(MemTy::F32, Ty::F32, from, (4 * channel * self.apart) as i32, 1)[0];
                        values.push((x, inside));
                    }
                }
                values
            })
            .collect();
        let zero = k.float(0.0, Ty::F32);
        let own = k.scaled(thread, i64::from(2 * PAIR));
        let to = k.add(start, own);
        let plane = self.plane();
        for (n, values) in (0..).zip(loaded) {
            let values: Vec<Val> = values.iter().map(|&(x, inside)| k.select(inside, x, zero)).collect();
            let (first, second) = values.split_at(self.channels as usize);
            let channel = |of: &[Val], channel: usize| of.get(channel).copied().unwrap_or(zero);
            let mut rest: Vec<[Val; 2]> = (0..4).map(|i| [channel(first, i), channel(second, i)]).collect();
            for part in 0..PLANES {
                let words: Vec<Val> = rest.iter_mut().map(|two| part_of(k, two, part + 1 < PLANES)).collect();
                k.store_at(MemTy::B32, to, (n * GROUP * 2 * PAIR + part * plane) as i32, &words);
            }
        }
    }
}

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn pairs(p: &Product, s: &Pairs, arch: &Arch) -> Result<Kernel, Unsupported> {
    let c = &p.contraction;
    let facts = Facts::of(p, arch);
    let Some(few) = facts.few.as_ref().filter(|_| s.legal(&facts)) else {
        return Err(Unsupported(format!("{s} does not fit a contraction of {} over {:?}", c.dtype, c.space)));
    };
    let (roles, size, w) = (c.roles(), facts.of.size, &few.windows);
    let mut k = Writer::for_arch(arch);
    k.in_parts(&few.parts);
    let weights = s.weights(&size, &few.parts);
    let (threads, plane, lists) = (s.threads(), few.plane(), s.lists());
    let by_lane = by_lane(c.out.dtype, &size, Along::Depth, s.bn);

    let block = k.op(Ty::U32, Op::Special(Special::Block), &[]);
    let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
    let ([down, across], [blocks, beside]) = s.grid(&facts, few);
    let (rest, beside) = k.div_rem(block, beside);
    let (warp, lane) = k.warp(thread);
    let (group, quarter) = k.div_rem(warp, 4);
    let first = k.scaled(rest, i64::from(s.tiles));
    let tile = k.add(first, group);
    let there = k.below(tile, i64::from(down * across * w.images));
    let (_, patch) = w.patch(&mut k, tile, [down, across, 1], [SIDE; 2]);
    let column = k.scaled(beside, i64::from(s.bn));
    let start = k.shared(s.shared(few));
    let pixels = k.plus(start, i64::from(s.columns(few)));
    let moved = k.scaled(group, i64::from(PLANES * plane));
    let pixels = k.add(pixels, moved);

    let lines = PLANES * s.bn;
    // Whole lines of a part at a time.
    let copying = threads.min(2 * GROUP);
    let copies = (threads > copying).then(|| k.below(thread, i64::from(copying)));
    let columns = Columns::new(&mut k, &weights, (thread, copying), beside, (lines, ROW), by_lane, start);
    let copy_columns = |k: &mut Writer, line: u32| {
        let depth = k.int(i64::from(line * LINE), Ty::U32);
        let bytes = ROW.min(2 * (few.depth() - line * LINE));
        let copy = |k: &mut Writer| columns.copy(k, depth, (line * lines * ROW, 0), (&(0..lines), bytes));
        k.when_some(copies, copy);
    };
    k.constant_param(1);
    copy_columns(&mut k, 0);
    k.wait_dependencies();
    let (_, own) = k.div_rem(thread, GROUP);
    few.copy_pixels(&mut k, (own, pixels), (&patch, there));
    k.commit_copies();
    for line in 1..few.lines() {
        copy_columns(&mut k, line);
        k.commit_copies();
    }

    let row = few.extents()[1] * 2 * PAIR;
    let a = descriptor_of_matrices(&mut k, pixels, [2 * PAIR, w.image.steps[0] * row]);
    let b = descriptor(&mut k, start, 0);
    let sums = Sums::new(&mut k, s.bn, PLANES, lists);
    for line in 0..few.lines() {
        k.wait_copies(few.lines() - 1 - line);
        k.fence_proxy();
        k.barrier();
        k.fence_products();
        for step in line * LINE / STEP..((line + 1) * LINE).min(few.depth()) / STEP {
            let (tap, within) = (step * STEP / w.run, step * STEP % w.run);
            let pixel = w.taps[tap as usize][0] * row + 2 * within;
            let b = k.plus(b, i64::from((line * lines * ROW + step % (LINE / STEP) * 2 * STEP) >> 4));
            for part in 0..PLANES {
                let a = k.plus(a, i64::from((part * plane + pixel) >> 4));
                sums.multiply(&mut k, Mode::Parts, (part, &[a], (line % lists) as usize), (b, s.bn * ROW));
            }
        }
        k.commit_products();
        // The list of the next products.
        if line + 1 >= lists && line + 1 < few.lines() {
            k.wait_products(lists - 1);
            sums.gather(&mut k, ((line + 1) % lists) as usize);
        }
    }
    k.wait_products(0);
    let sums = sums.total(&mut k);

    let (none, firsts) = (k.int(0, Ty::U32), [k.scaled(quarter, 16), column]);
    let [rows, _] = sources(c, p.layout);
    let sources = &[rows, source_of_parts(&few.parts)];
    let patch = Some(patch);
    let again = Tile {
        sources,
        batch: none,
        firsts,
        patch,
        across: s.bn / 8,
        lane,
        first: none,
        depth: size.k,
        runs: None,
        total: size.k,
        parts: Some(&few.parts),
        by_lane,
    };
    repair(&mut k, &again, &sums);
    let whole = w.counts.iter().all(|n| n.is_multiple_of(SIDE)) && (down * across * w.images).is_multiple_of(s.tiles);
    let tiles = blocks * size.n.div_ceil(s.bn);
    let partial = Partial { split: 1, threads, operands: 3 + c.extras.len() as u32, tiles, tile: block, part: none, thread, cluster: None };
    let grid = Grid {
        c,
        roles: &roles,
        rows: 16,
        columns: s.bn,
        apart: 64,
        firsts,
        patch,
        batch: none,
        lane,
        by_lane,
        ahead: if s.tiles > 2 { 4 } else { 8 },
        whole: (whole, size.n.is_multiple_of(s.bn)),
    };
    grid.finish(k, "pairs", &partial, &sums)
}
