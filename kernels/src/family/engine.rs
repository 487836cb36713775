//! Factors of a contraction by the copy engine: one thread asks for tiles ahead, barriers tell when they came. What is multiplied in TF32 it
//! rounds on the way, except weights, which were rounded before. Blocks of a cluster, whose
//! tiles need the same columns, ask for a part of them each, and the engine hands every part to all of them (multicast).

use super::affine::Linear;
use super::blocks::Place;
use super::images::{Windows, images};
use super::mma::Product;
use super::pipeline::{Factors, Pipeline, Readers};
use super::tile::Lanes;
use crate::dsl::{Val, Writer};
use crate::layout::{PANEL, ROW};
use crate::ptx::{Op, Ty};
use wpk_plan::problem::{Access, Contraction};
use wpk_plan::{TensorMap, WeightLayout};

/// What brings the second factor, and the first where that is a matrix or what windows read of images.
#[derive(Clone)]
pub struct Engine {
    rows: Option<Side>,
    columns: Side,
    /// The barrier of stage 0; those of the others follow.
    barriers: Val,
    /// Whether the thread is the one that asks.
    asks: Val,
    /// The first of a tile's columns that the block asks for.
    within: Val,
    /// Bytes of a stage that come this way.
    bytes: u32,
    cluster: u32,
}

/// A factor.
#[derive(Clone)]
struct Side {
    map: Val,
    /// Where the block's part of a tile goes in stage 0, and its first line.
    to: Val,
    line: Val,
    /// Panels of lines that lie across the depth; none of what lies along it.
    panels: u32,
    /// Whether every block of the cluster gets it.
    everywhere: bool,
    /// Whether no kernel writes it.
    constant: bool,
    /// Whether lines lie by lane.
    by_lane: bool,
    /// What windows read of images, if that is what lines are.
    windows: Option<Windows>,
}

/// How the engine sees a second factor.
#[derive(Clone, Copy)]
pub struct Columns {
    map: TensorMap,
    part: u32,
    /// Whether lines of the map are depths.
    across: bool,
    /// Whether it is a weight.
    constant: bool,
}

/// Stages whose columns are asked for before the kernel waits for those it depends on, where the engine brings rows too.
const EARLY: usize = 1;

/// Bytes of a barrier.
pub const BARRIER: u32 = 8;

impl Columns {
    /// The same columns in the order in which a lane's sums are neighbours, where they come in whole groups of those and warps have sums of so
    /// many.
    pub fn by_lane(self, sums: u32) -> Self {
        let map = TensorMap { by_lane: true, ..self.map };
        let whole = !self.across && sums.is_multiple_of(TensorMap::LANES as u32) && map.fault().is_none();
        if whole { Self { map, ..self } } else { self }
    }

    pub fn are_by_lane(&self) -> Option<Lanes> {
        self.map.by_lane.then_some(Lanes::BY_ENGINE)
    }
}

/// How the engine sees the second factor, a weight or a matrix, in parts of so many columns; `None` where it cannot.
pub fn columns(p: &Product, part: u32) -> Option<Columns> {
    let (c, roles, size) = (&p.contraction, p.contraction.roles(), p.contraction.dtype.bytes());
    let (depth, lines) = (roles.count(&roles.k()), roles.count(&roles.n));
    let map = seen_of(c, 1, [depth, lines], part);
    let seen = if p.layout == WeightLayout::Columns {
        let pitch = roles.column_len(size).checked_mul(size)?;
        Columns { map: TensorMap { rounds: false, pitch, ..map }, part, across: false, constant: true }
    } else {
        let (offset, steps) = matrix(c, &c.b, [&roles.k(), &roles.n])?;
        let across = steps[0] != size;
        let multiplied = size == 2 || c.tf32 && !across;
        if p.layout != WeightLayout::Dense || !multiplied || steps[usize::from(across)] != size {
            return None;
        }
        let map = TensorMap { offset, pitch: steps[usize::from(!across)], ..map };
        let map = if across { TensorMap { depth: lines, lines: depth, tile: PANEL, ..map } } else { map };
        Columns { map, part, across, constant: false }
    };
    // Shared memory repeats every eight lines.
    let parts = part.is_multiple_of(if seen.across { PANEL } else { 8 });
    (roles.count(&roles.batch) == 1 && parts && seen.map.fault().is_none()).then_some(seen)
}

/// How the engine sees the first factor in so many rows at once; `None` where it is neither a matrix nor what windows read of images, of a type
/// that warpgroups multiply.
pub fn rows(p: &Product, tile: u32) -> Option<(TensorMap, Option<Windows>)> {
    let (c, roles) = (&p.contraction, p.contraction.roles());
    let (depth, lines, size) = (roles.count(&roles.k()), roles.count(&roles.m), c.dtype.bytes());
    if !(size == 2 || c.tf32) || roles.count(&roles.batch) != 1 {
        return None;
    }
    let sound = |map: &TensorMap| map.fault().is_none();
    let plain = matrix(c, &c.a, [&roles.k(), &roles.m]).filter(|(_, steps)| steps[0] == size);
    let map = seen_of(c, 0, [depth, lines], tile);
    let plain = plain.map(|(offset, [_, pitch])| TensorMap { offset, pitch, ..map });
    match plain.filter(sound) {
        Some(map) => Some((map, None)),
        None => images(c, &roles, tile).filter(|(map, _)| sound(map)).map(|(map, windows)| (map, Some(windows))),
    }
}

/// A factor by number, in tiles of so many lines; where they begin is still to be said.
pub fn seen_of(c: &Contraction, argument: u32, [depth, lines]: [usize; 2], tile: u32) -> TensorMap {
    TensorMap { argument, dtype: c.dtype, rounds: c.tf32, offset: 0, depth, lines, pitch: 0, tile, by_lane: false, images: None }
}

/// Where a factor begins, and from each depth and line to the next, in bytes; `None` where it is no matrix.
fn matrix(c: &Contraction, access: &Access, loops: [&[usize]; 2]) -> Option<(usize, [usize; 2])> {
    let linear = Linear::access(access, &c.space);
    let bytes = |elements: i64| usize::try_from(elements).ok()?.checked_mul(c.dtype.bytes());
    let steps = [bytes(linear.step(loops[0])?)?, bytes(linear.step(loops[1])?)?];
    linear.checks.is_empty().then_some((bytes(linear.base)?, steps))
}

impl Engine {
    /// Prepares the barriers of so many stages, which all blocks of the cluster know afterwards.
    pub fn new(
        k: &mut Writer,
        maps: (Option<(TensorMap, Option<Windows>)>, Columns),
        place: &Place<'_>,
        (stages, cluster): (u32, u32),
    ) -> Self {
        let asks = k.one_of_first_warp(place.thread);
        let barriers = k.shared(stages * BARRIER);
        if cluster > 1 {
            k.cluster(cluster);
        }
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
        let side = |map, to, line| Side { map, to, line, panels: 0, everywhere: false, constant: false, by_lane: false, windows: None };
        let bytes = maps.0.as_ref().map_or(0, |m| m.0.tile_bytes());
        let rows = maps.0.map(|(map, windows)| {
            let windows = windows.map(|w| w.beginning(k, place.firsts[0]));
            Side { windows, ..side(k.tensor_map(map), place.starts[0], place.firsts[0]) }
        });
        let Columns { map, part, across, constant } = maps.1;
        let first = k.scaled(place.rank, i64::from(part));
        let moved = k.scaled(first, i64::from(ROW));
        let (to, line) = (k.add(place.starts[1], moved), k.add(place.firsts[1], first));
        let panels = if across { part / PANEL } else { 0 };
        let by_lane = map.by_lane;
        let columns = Side { panels, everywhere: cluster > 1, constant, by_lane, ..side(k.tensor_map(map), to, line) };
        Self { rows, columns, barriers, asks, within: first, bytes: bytes + part * ROW * cluster, cluster }
    }

    /// The same for another tile of the block.
    pub fn at(&self, k: &mut Writer, firsts: [Val; 2]) -> Self {
        let line = k.add(firsts[1], self.within);
        let rows = self.rows.clone().map(|rows| {
            let windows = rows.windows.map(|w| w.beginning(k, firsts[0]));
            Side { windows, line: firsts[0], ..rows }
        });
        Self { rows, columns: Side { line, ..self.columns.clone() }, ..*self }
    }

    /// The barrier of a stage whose barrier lies so many bytes behind the first one.
    pub fn barrier(&self, k: &mut Writer, behind: Val) -> Val {
        k.add(self.barriers, behind)
    }

    /// Announces a stage, and asks for both factors at a depth.
    pub fn ask_both(&self, k: &mut Writer, at: Val, (bytes, barrier): (Val, Val)) {
        let stage = Stage { bytes, barrier };
        self.ask(k, at, &stage);
        self.ask_rows(k, at, &stage);
    }

    /// Announces a stage, and asks for its columns.
    fn ask(&self, k: &mut Writer, at: Val, stage: &Stage) {
        let barrier = k.add(self.barriers, stage.barrier);
        k.expect_bytes(barrier, self.bytes);
        self.columns.ask(k, at, stage.bytes, barrier);
    }

    /// Asks for its rows.
    fn ask_rows(&self, k: &mut Writer, at: Val, stage: &Stage) {
        if let Some(rows) = &self.rows {
            let barrier = k.add(self.barriers, stage.barrier);
            rows.ask(k, at, stage.bytes, barrier);
        }
    }
}

/// A stage: how many bytes its tiles and its barrier lie behind the first one's.
struct Stage {
    bytes: Val,
    barrier: Val,
}

impl Side {
    fn ask(&self, k: &mut Writer, depth: Val, stage: Val, barrier: Val) {
        let to = k.add(self.to, stage);
        let signed = |at: [Val; 2]| at.map(|v| Val { ty: Ty::S32, ..v });
        if let Some(windows) = &self.windows {
            let (at, window) = windows.at(k, depth);
            return k.copy_tile(self.map, &at, Some(window), to, barrier, self.everywhere);
        }
        if self.by_lane {
            let (group, _) = k.div_rem(self.line, TensorMap::LANES as u32);
            let zero = k.int(0, Ty::U32);
            return k.copy_tile(
                self.map,
                &[depth, zero, zero, zero, group].map(|v| Val { ty: Ty::S32, ..v }),
                None,
                to,
                barrier,
                self.everywhere,
            );
        }
        if self.panels == 0 {
            return k.copy_tile(self.map, &signed([depth, self.line]), None, to, barrier, self.everywhere);
        }
        for panel in 0..self.panels {
            let to = k.plus(to, i64::from(panel * PANEL * ROW));
            let line = k.plus(self.line, i64::from(panel * PANEL));
            k.copy_tile(self.map, &signed([line, depth]), None, to, barrier, self.everywhere);
        }
    }
}

impl Pipeline {
    /// As [`Pipeline::factors`], for products of warpgroups: the engine copies the second factor; the first it does, or threads do.
    pub fn with_engine(&self, k: &mut Writer, f: &Factors<'_>, engine: &Engine, consume: impl FnOnce(&mut Writer, Val, Val)) {
        let ahead = self.stages - 2;
        let number = |k: &Writer, x: u32| k.int(i64::from(x), Ty::U32);
        let stage = |k: &Writer, n: u32| Stage { bytes: number(k, n * self.bytes), barrier: number(k, n * BARRIER) };
        let depth = |k: &mut Writer, round: Val| {
            let deeper = k.scaled(round, i64::from(f.depth));
            k.add(f.first, deeper)
        };
        let copy = |k: &mut Writer, at: Val, to: Val| f.loaders.iter().for_each(|l| l.copy(k, at, to, f.whole));
        let first: Vec<(Val, Stage)> = (0..ahead.min(self.rounds)).map(|n| (number(k, n), stage(k, n))).collect();
        let ask_for = |k: &mut Writer, stages: &[(Val, Stage)], ask: &dyn Fn(&mut Writer, Val, &Stage)| {
            if stages.is_empty() {
                return;
            }
            k.when(engine.asks, |k| {
                for (round, stage) in stages {
                    let at = depth(k, *round);
                    ask(k, at, stage);
                }
            });
        };
        // The engine takes one tile after the other: rows of the first stage are not to come behind the columns of all.
        let early = if engine.rows.is_some() { EARLY.min(first.len()) } else { first.len() };
        let (early, late) = first.split_at(if engine.columns.constant { early } else { 0 });
        if engine.columns.constant {
            k.constant_param(1);
            ask_for(k, early, &|k, at, stage| engine.ask(k, at, stage));
        }
        k.wait_dependencies();
        if engine.rows.is_some() {
            ask_for(k, early, &|k, at, stage| engine.ask_rows(k, at, stage));
        }
        ask_for(k, late, &|k, at, stage| {
            engine.ask(k, at, stage);
            engine.ask_rows(k, at, stage);
        });
        for n in 0..ahead as usize {
            if let Some((round, stage)) = first.get(n) {
                let at = depth(k, *round);
                copy(k, at, stage.bytes);
            }
            self.commit(k);
        }
        let (zero, begin) = (number(k, 0), stage(k, ahead));
        let [reading, came, parity] = [zero; 3].map(|x| k.variable(x));
        let writing = Stage { bytes: k.variable(begin.bytes), barrier: k.variable(begin.barrier) };
        if engine.cluster > 1 {
            k.arrive_cluster();
        }
        k.repeat(self.rounds, |k, round| {
            self.arrived(k, ahead - 1);
            if !f.loaders.is_empty() && self.readers == Readers::Products {
                k.fence_proxy();
            }
            // The cluster's barrier is one of the block too, but copies and reads by threads are told by this one.
            if engine.cluster == 1 || !f.loaders.is_empty() || self.readers == Readers::Both {
                k.barrier();
            }
            let barrier = k.add(engine.barriers, came);
            k.await_bytes(barrier, parity);
            consume(k, round, reading);
            // Products run beside what follows. Those of the round before are over in every block of the cluster behind this wait.
            if engine.cluster > 1 {
                k.wait_cluster();
            }
            let next = k.plus(round, i64::from(ahead));
            let more = k.below(next, i64::from(self.rounds));
            k.when(more, |k| {
                let at = depth(k, next);
                copy(k, at, writing.bytes);
                k.when(engine.asks, |k| {
                    engine.ask(k, at, &writing);
                    engine.ask_rows(k, at, &writing);
                });
            });
            self.commit(k);
            self.round_before(k);
            if engine.cluster > 1 {
                k.arrive_cluster();
            }
            self.advance(k, writing.bytes);
            self.step(k, writing.barrier, BARRIER);
            self.advance(k, reading);
            let wraps = self.step(k, came, BARRIER);
            let one = number(k, 1);
            let flipped = k.op(Ty::U32, Op::Xor, &[parity, one]);
            let next = k.select(wraps, flipped, parity);
            k.assign(parity, next);
        });
        k.wait_products(0);
        if engine.cluster > 1 {
            k.wait_cluster();
        }
    }
}
