//! Tiles that stream through shared memory in stages: copies run ahead of their use by all stages but one.

use super::tile::Loader;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Ty};
use wpk_plan::WeightLayout;

/// How tiles stream.
pub struct Pipeline {
    /// Tiles in shared memory at once.
    pub stages: u32,
    /// Bytes of one.
    pub bytes: u32,
    /// Tiles that pass.
    pub rounds: u32,
    /// Whether any copy is asynchronous.
    pub asynchronous: bool,
    pub readers: Readers,
}

/// What reads tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Warps, within the round.
    Warps,
    /// A group of products of warpgroups, which still read a tile a round later.
    Products,
    /// Warps the first factor, and products the second; those of a round were waited for in the next.
    Both,
}

/// Starts copies of the tile of a round to a number of bytes behind the first stage.
pub type Copies<'a> = &'a dyn Fn(&mut Writer, Val, Val);

/// The factors of a contraction on their way to shared memory.
pub struct Factors<'a> {
    /// What copies the first factor, then what copies the second, in one or several panels; those of a factor that the engine copies are missing.
    pub loaders: &'a [Loader<'a>],
    /// Whether every thread rounds to TF32 what it copied of the second one.
    pub rounded: bool,
    /// The depth at which the block begins.
    pub first: Val,
    /// Elements of depth of a tile.
    pub depth: u32,
    /// Whether every tile is within the depth.
    pub whole: bool,
}

impl Factors<'_> {
    /// Starts a thread's copies of a factor's tile of a round to so many bytes behind the first stage.
    pub fn copy(&self, k: &mut Writer, side: usize, round: Val, to: Val) {
        let deeper = k.scaled(round, i64::from(self.depth));
        let at = k.add(self.first, deeper);
        let own = if side == 0 { &self.loaders[..1] } else { &self.loaders[1..] };
        own.iter().for_each(|l| l.copy(k, at, to, self.whole));
    }
}

impl Pipeline {
    /// The tiles of both factors of a contraction. A packed second factor is a weight.
    pub fn factors(&self, k: &mut Writer, f: &Factors<'_>, layout: WeightLayout, consume: impl FnOnce(&mut Writer, Val, Val)) {
        let copy = |side: usize| move |k: &mut Writer, round: Val, to: Val| f.copy(k, side, round, to);
        let (rows, columns) = (copy(0), copy(1));
        let round = |k: &mut Writer, stage: Val| {
            f.loaders[1..].iter().filter(|_| f.rounded).for_each(|l| l.round(k, stage));
        };
        if layout != WeightLayout::Dense {
            k.constant_param(1);
            return self.stream(k, Some(&columns), &rows, &round, consume, |k, _| self.round_before(k));
        }
        let both = |k: &mut Writer, round: Val, to: Val| {
            rows(k, round, to);
            columns(k, round, to);
        };
        self.stream(k, None, &both, &round, consume, |k, _| self.round_before(k));
    }

    /// Every tile copied, and consumed by its round and its bytes behind the first stage.
    pub fn run(&self, k: &mut Writer, copies: Copies<'_>, consume: impl FnOnce(&mut Writer, Val, Val)) {
        self.stream(k, None, copies, &|_, _| {}, consume, |_, _| {});
    }

    /// The same where products of warpgroups begin with a tile, and something follows behind the copies that they run beside: it waits for the
    /// products of the round before.
    pub fn run_products(
        &self,
        k: &mut Writer,
        copies: Copies<'_>,
        begin: impl FnOnce(&mut Writer, Val, Val),
        follow: impl FnOnce(&mut Writer, (Val, Val)),
    ) {
        self.stream(k, None, copies, &|_, _| {}, begin, follow);
    }

    /// `constant` copies what no kernel writes; its first tile starts before the kernel waits for those it depends on. `prepare` changes
    /// what the thread itself copied to a stage, `follow` ends a round.
    fn stream(
        &self,
        k: &mut Writer,
        constant: Option<Copies<'_>>,
        copies: Copies<'_>,
        prepare: &dyn Fn(&mut Writer, Val),
        consume: impl FnOnce(&mut Writer, Val, Val),
        follow: impl FnOnce(&mut Writer, (Val, Val)),
    ) {
        let products = self.readers != Readers::Warps;
        let ahead = self.stages - if products { 2 } else { 1 };
        let place = |k: &Writer, stage: u32| (k.int(i64::from(stage), Ty::U32), k.int(i64::from(stage * self.bytes), Ty::U32));
        let first: Vec<(Val, Val)> = (0..ahead.min(self.rounds)).map(|stage| place(k, stage)).collect();
        if let (Some(constant), Some(&(round, to))) = (constant, first.first()) {
            constant(k, round, to);
            k.wait_dependencies();
        }
        // Tile by tile, so that the first one waits for nothing that is behind it.
        for stage in 0..ahead as usize {
            if let Some(&(round, to)) = first.get(stage) {
                copies(k, round, to);
                constant.filter(|_| stage > 0).into_iter().for_each(|constant| constant(k, round, to));
            }
            self.commit(k);
        }
        let (reading, writing) = (place(k, 0).1, place(k, ahead).1);
        let (reading, writing) = (k.variable(reading), k.variable(writing));
        k.repeat(self.rounds, |k, round| {
            // What is written now was read in the round before.
            self.arrived(k, ahead - 1);
            prepare(k, reading);
            if products {
                k.fence_proxy();
            }
            k.barrier();
            let copy = |k: &mut Writer| {
                let next = k.plus(round, i64::from(ahead));
                let more = k.below(next, i64::from(self.rounds));
                k.when(more, |k| {
                    copies(k, next, writing);
                    if let Some(constant) = constant {
                        constant(k, next, writing);
                    }
                });
                self.commit(k);
            };
            if products {
                // Products run beside the copies; those of the round before are over then: its tile is the next to be written.
                consume(k, round, reading);
                copy(k);
            } else {
                copy(k);
                consume(k, round, reading);
            }
            follow(k, (round, reading));
            self.advance(k, reading);
            self.advance(k, writing);
        });
        if products {
            k.wait_products(0);
        }
        // Only empty groups of copies are under way now.
    }

    /// Waits for the products of the round before, where that is not done already.
    pub(super) fn round_before(&self, k: &mut Writer) {
        if self.readers == Readers::Products {
            k.wait_products(1);
        }
    }

    /// Waits until at most so many of the latest groups of copies are under way.
    pub(super) fn arrived(&self, k: &mut Writer, pending: u32) {
        if self.asynchronous {
            k.wait_copies(pending);
        }
    }

    pub(super) fn commit(&self, k: &mut Writer) {
        if self.asynchronous {
            k.commit_copies();
        }
    }

    /// To the next stage, after the last to the first.
    pub(super) fn advance(&self, k: &mut Writer, at: Val) {
        self.step(k, at, self.bytes);
    }

    /// The same for what lies so many bytes apart; whether it was the last.
    pub(super) fn step(&self, k: &mut Writer, at: Val, bytes: u32) -> Val {
        let next = k.plus(at, i64::from(bytes));
        let end = k.int(i64::from(self.stages * bytes), Ty::U32);
        let wraps = k.compare(Cmp::Eq, next, end);
        let begin = k.int(0, Ty::U32);
        let next = k.select(wraps, begin, next);
        k.assign(at, next);
        wraps
    }
}
