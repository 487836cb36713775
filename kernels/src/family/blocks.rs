//! How contractions are shared out: a tile of the result by block, or by several that split its depth, and both factors' tiles streaming
//! through the block's shared memory.

use super::engine::Engine;
use super::factors::Size;
use super::grid::Grid;
use super::partial::{Meeting, Partial, Shares};
use super::pipeline::{Factors, Pipeline, Readers};
use super::tile::{Along, Corner, Lanes, Layout, Loader, Source};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Op, Special, Ty};
use wpk_plan::problem::{Contraction, Roles};
use wpk_plan::{DType, Parts, WeightLayout};

/// The tiles of a contraction.
pub struct Tiling<'a> {
    pub size: Size,
    pub layouts: &'a [Layout; 2],
    /// Rows and columns of a tile.
    pub extents: [u32; 2],
    /// Blocks that share the depth of a tile.
    pub split: u32,
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of shared memory for the factors.
    pub shared: u32,
    /// Blocks of a cluster, whose tiles lie below each other; 1 where the depth is shared.
    pub cluster: u32,
    /// How many of the factors threads copy, the first or both.
    pub copied: usize,
    /// What a stage holds of the second factor; a layout describes each of it.
    pub panels: Panels,
    /// How blocks that share the depth share out its sums, where they are a cluster.
    pub shares: Option<Shares>,
    /// See [`by_lane`].
    pub by_lane: Option<Lanes>,
}

/// How columns of a tile are to lie so that a lane's sums are neighbours, for results of a type: where they are copied one by one, in whole groups,
/// and a warp has sums of so many.
pub fn by_lane(out: DType, size: &Size, columns: Along, sums: u32) -> Option<Lanes> {
    let lanes = Lanes::storing(out.bytes());
    let whole = size.n.is_multiple_of(lanes.all()) && sums.is_multiple_of(lanes.all());
    (columns == Along::Depth && whole).then_some(lanes)
}

/// What a stage holds of the second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Panels {
    /// So many panels of columns side by side.
    Beside(u32),
    /// Every part of the same columns.
    Parts,
}

impl Panels {
    /// All columns in one.
    pub const ONE: Self = Self::Beside(1);

    pub fn count(self) -> u32 {
        match self {
            Self::Beside(n) => n,
            Self::Parts => Parts::COUNT as u32,
        }
    }
}

/// A block among the tiles.
pub struct Place<'a> {
    pub thread: Val,
    /// The tile, and which part of its depth.
    pub tile: Val,
    pub part: Val,
    /// The block's number in its cluster.
    pub rank: Val,
    pub batch: Val,
    /// The tile's first row and column.
    pub firsts: [Val; 2],
    /// Where both factors begin in shared memory.
    pub starts: [Val; 2],
    pub loaders: Vec<Loader<'a>>,
    /// Tiles in all.
    pub tiles: u32,
    /// Where blocks that share the depth meet, if they are a cluster.
    cluster: Option<(Shares, Meeting)>,
    stage: u32,
}

/// How the depth streams.
pub struct Depth {
    pub stages: u32,
    /// Elements of a stage.
    pub elements: u32,
    /// Stages of a block, and elements in all.
    pub rounds: u32,
    pub total: u32,
    /// See [`Factors::rounded`].
    pub rounded: bool,
    pub readers: Readers,
}

impl Tiling<'_> {
    /// Columns of tiles that blocks go down together, the last ones fewer where they do not divide all. Where factors are larger than the second
    /// cache, blocks that run at once read less of both by that.
    fn strip(&self, columns: u32, arch: &Arch) -> u32 {
        const WIDEST: u32 = 8;
        let Size { batch, m, n, k } = self.size;
        let bytes = [m, n, k, batch].map(u64::from);
        let bytes = (bytes[0] + bytes[1]) * bytes[2] * bytes[3] * u64::from(self.layouts[0].element);
        if columns <= WIDEST || bytes <= arch.cache as u64 {
            return columns;
        }
        (WIDEST / 2..=WIDEST).rev().find(|n| columns.is_multiple_of(*n)).unwrap_or(WIDEST)
    }

    /// The beginning of a kernel: where its block is, and what copies its factors.
    pub fn place<'a>(&self, k: &mut Writer, sources: &'a [Source; 2], arch: &Arch) -> Place<'a> {
        let block = k.op(Ty::U32, Op::Special(Special::Block), &[]);
        let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
        let (tile, part) = k.div_rem(block, self.split);
        let (batch, rank, firsts) = self.corner(k, tile, arch);
        let start = k.shared(self.shared);
        let cluster = self.shares.map(|shares| {
            k.cluster(self.split);
            (shares, Meeting::prepare(k, thread, self.extents))
        });
        let starts = [start, k.plus(start, i64::from(self.layouts[0].bytes()))];
        let all = [(0, 0)].into_iter().chain((0..self.panels.count()).map(|panel| (1, panel)));
        let loaders = all.filter(|&(side, _)| side < self.copied).map(|(side, panel)| {
            let layout = self.layouts[side];
            let start = k.plus(starts[side], i64::from(panel * layout.bytes()));
            let (first, batch) = match self.panels {
                Panels::Parts if side == 1 => {
                    let matrix = k.scaled(batch, Parts::COUNT as i64);
                    (firsts[side], k.plus(matrix, i64::from(panel)))
                }
                _ => (k.plus(firsts[side], i64::from(panel * layout.lines)), batch),
            };
            let corner = Corner { start, batch, first, apart: self.extents[side], by_lane: self.by_lane.filter(|_| side == 1) };
            Loader::new(k, &sources[side], layout, arch, (thread, self.threads), corner)
        });
        let loaders = loaders.collect();
        let stage = self.layouts[0].bytes() + self.panels.count() * self.layouts[1].bytes();
        Place {
            thread,
            tile,
            part,
            rank,
            batch,
            firsts,
            starts,
            loaders,
            tiles: self.size.batch * self.down() * self.across(),
            cluster,
            stage,
        }
    }

    /// Tiles below each other, in whole clusters.
    fn down(&self) -> u32 {
        self.size.m.div_ceil(self.extents[0]).next_multiple_of(self.cluster)
    }

    /// Tiles side by side.
    fn across(&self) -> u32 {
        self.size.n.div_ceil(self.extents[1])
    }

    /// The batch's number of a tile, the block's in its cluster, and the tile's first row and column.
    pub fn corner(&self, k: &mut Writer, tile: Val, arch: &Arch) -> (Val, Val, [Val; 2]) {
        let (above, rank) = k.div_rem(tile, self.cluster);
        let (columns, down) = (self.across(), self.down() / self.cluster);
        let strip = self.strip(columns, arch);
        let part = |k: &mut Writer, x, size, parts| if parts == 1 { (k.int(0, Ty::U32), x) } else { k.div_rem(x, size) };
        let (batch, above) = part(k, above, down * columns, self.size.batch);
        let (strips, above) = part(k, above, down * strip, columns.div_ceil(strip));
        let (mut clustered, mut within) = k.div_rem(above, strip);
        if !columns.is_multiple_of(strip) {
            let last = k.compare(Cmp::Eq, strips, k.int(i64::from(columns / strip), Ty::U32));
            let narrow = k.div_rem(above, columns % strip);
            (clustered, within) = (k.select(last, narrow.0, clustered), k.select(last, narrow.1, within));
        }
        let tile_n = k.scaled(strips, i64::from(strip));
        let tile_n = k.add(tile_n, within);
        let tile_m = k.scaled(clustered, i64::from(self.cluster));
        let tile_m = k.add(tile_m, rank);
        (batch, rank, [k.scaled(tile_m, i64::from(self.extents[0])), k.scaled(tile_n, i64::from(self.extents[1]))])
    }

    /// What becomes of the sums of a block of a contraction with so many operands and extra ones.
    pub fn partial(&self, place: &Place<'_>, extras: usize) -> Partial {
        let &Place { tile, part, thread, tiles, cluster, .. } = place;
        Partial { split: self.split, threads: self.threads, operands: 3 + extras as u32, tiles, tile, part, thread, cluster }
    }

    /// A warp's sums in the block's tile: `[rows, columns, apart]` of them from `firsts` on, by a lane; see [`Grid`].
    pub fn grid<'c>(
        &self,
        (c, roles): (&'c Contraction, &'c Roles),
        (batch, lane): (Val, Val),
        firsts: [Val; 2],
        [rows, columns, apart]: [u32; 3],
        ahead: usize,
    ) -> Grid<'c> {
        Grid { c, roles, rows, columns, apart, firsts, patch: None, batch, lane, by_lane: self.by_lane, ahead, whole: self.whole() }
    }

    /// Whether all rows, and all columns, of every tile exist.
    pub fn whole(&self) -> (bool, bool) {
        (self.size.m.is_multiple_of(self.extents[0] * self.cluster), self.size.n.is_multiple_of(self.extents[1]))
    }
}

impl Place<'_> {
    /// The depth at which the block begins.
    pub fn first(&self, k: &mut Writer, d: &Depth) -> Val {
        k.scaled(self.part, i64::from(d.rounds * d.elements))
    }

    /// Streams the block's part of the depth; the second factor by the copy engine where there is one.
    pub fn stream(
        &self,
        k: &mut Writer,
        d: &Depth,
        (first, split): (Val, u32),
        (layout, engine): (WeightLayout, Option<&Engine>),
        consume: impl FnOnce(&mut Writer, Val, Val),
    ) {
        let (pipeline, factors) = self.streams(d, (first, split));
        match engine {
            Some(engine) => pipeline.with_engine(k, &factors, engine, consume),
            None => pipeline.factors(k, &factors, layout, consume),
        }
    }

    /// How the block's part of the depth streams.
    pub fn streams(&self, d: &Depth, (first, split): (Val, u32)) -> (Pipeline, Factors<'_>) {
        let whole = d.rounds * split * d.elements == d.total;
        let factors = Factors { loaders: &self.loaders, rounded: d.rounded, first, depth: d.elements, whole };
        let asynchronous = self.loaders.iter().any(Loader::is_asynchronous);
        (Pipeline { stages: d.stages, bytes: self.stage, rounds: d.rounds, asynchronous, readers: d.readers }, factors)
    }
}
