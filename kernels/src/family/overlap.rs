//! Convolutions whose windows overlap: what their kernels are to know, and where they copy weights from.

use super::affine::{Check, Linear};
use super::grid::Patch;
use super::images::Sides;
use super::mma::{self, Product};
use super::patches::Image;
use super::products::Mode;
use super::tile::{Along, Source};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use wpk_plan::WeightLayout;
use wpk_plan::problem::{Contraction, Roles};

/// What a schedule depends on.
pub struct Facts {
    pub of: mma::Facts,
    /// Whether the second factor is a weight in columns.
    pub columns: bool,
    pub windows: Option<Windows>,
}

/// Windows on images, and the depth in pieces.
pub struct Windows {
    pub image: Image,
    pub images: u32,
    /// Of an image, rows and columns.
    pub counts: [u32; 2],
    /// Pixels of a window behind its first, down and across.
    pub reach: [u32; 2],
    /// By piece of the depth, how far its pixel lies from a window's first.
    pub taps: Vec<[u32; 2]>,
    /// Elements of a piece: the channels of a pixel, or of all pixels of a row of the window where they are packed.
    pub run: u32,
    pub packed: bool,
}

impl Windows {
    fn of(c: &Contraction, roles: &Roles, element: u32) -> Option<Self> {
        let sides = Sides::of(c, roles).filter(|_| roles.count(&roles.batch) == 1)?;
        let loops = sides.taps(c, roles)?;
        let channels = sides.channels as u32;
        let packed = channels * element < 32;
        // The last loop over positions goes along the pixels of a row.
        let (outer, across) = match loops.split_last() {
            Some((&(count, true, 1), outer)) if packed => (outer, count as u32),
            _ if packed => return None,
            _ => (&loops[..], 1),
        };
        let taps = outer.iter().fold(vec![[0, 0]], |taps, &(count, along, by)| {
            let further = |tap: [u32; 2]| {
                (0..count as u32).map(move |i| {
                    let mut tap = tap;
                    tap[usize::from(along)] += i * by as u32;
                    tap
                })
            };
            taps.into_iter().flat_map(further).collect()
        });
        let reach = |side: usize| taps.iter().map(|t| t[side]).max().unwrap_or(0);
        let reach = [reach(0), reach(1) + across - 1];
        let image = Image::of(c, &sides)?;
        let overlap = [0, 1].into_iter().all(|side| image.steps[side] <= reach[side] + 1);
        let counts = [sides.rows.count(c) as u32, sides.columns.count(c) as u32];
        let images = sides.image.count(c) as u32;
        overlap.then_some(Self { image, images, counts, reach, taps, run: across * channels, packed })
    }
}

impl Windows {
    /// Tiles down, across and of columns of the product, by rows and columns of windows and columns of one.
    pub fn tiles(&self, [rows, columns]: [u32; 2], (n, bn): (u32, u32)) -> [u32; 3] {
        [self.counts[0].div_ceil(rows), self.counts[1].div_ceil(columns), n.div_ceil(bn)]
    }

    /// Which columns of the product a tile has, and which windows.
    pub fn patch(&self, k: &mut Writer, tile: Val, tiles: [u32; 3], extents: [u32; 2]) -> (Val, Patch) {
        let (rest, beside) = k.div_rem(tile, tiles[2]);
        let (rest, across) = k.div_rem(rest, tiles[1]);
        let (image, down) = k.div_rem(rest, tiles[0]);
        let corner = [k.scaled(down, i64::from(extents[0])), k.scaled(across, i64::from(extents[1]))];
        let all = self.images * self.counts[0] * self.counts[1];
        (beside, Patch { extents, windows: self.counts, all, image, corner })
    }

    /// Where the columns of tiles of so many are copied from, in batches by tile: line by line of every piece, of which each of `groups` that share a
    /// tile has its own, part by part.
    pub fn columns(&self, weights: &Source, (columns, planes): (u32, u32), (tile, groups): (u32, u32)) -> Source {
        let pitch = weights.linear.per_loop[1];
        let [bn, own, run, taps] = [tile, tile / groups, self.run, self.taps.len() as u32].map(i64::from);
        let per_loop = vec![bn * pitch, run, own * pitch, weights.linear.per_loop[0], pitch, 1];
        let mut checks = vec![];
        if !columns.is_multiple_of(tile) {
            checks.push(Check::below(columns as usize, vec![bn, 0, own, 0, 1, 0]));
        }
        if self.packed {
            // The last row of a window is filled with what follows it.
            checks.push(Check::below(pitch as usize, vec![0, run, 0, 0, 0, 1]));
        }
        let space =
            [i64::from(columns.div_ceil(tile)), taps, i64::from(groups), i64::from(planes), own, pitch].map(|n| n as usize).to_vec();
        let linear = Linear { base: 0, per_loop, checks, space };
        Source { param: 1, dtype: weights.dtype, rounds: None, linear, batch: vec![0], lines: vec![1, 2, 3, 4], depth: vec![5] }
    }
}

impl Facts {
    pub fn of(p: &Product, arch: &Arch) -> Self {
        let (c, mut of) = (&p.contraction, mma::Facts::of(p, arch));
        // Pixels may be given in another type.
        of.mode = Mode::of(c.dtype, c.tf32).filter(|_| arch.matrix > 0.0);
        let windows = Windows::of(&p.contraction, &p.contraction.roles(), of.element).filter(|_| of.small);
        Self { of, columns: p.layout == WeightLayout::Columns, windows }
    }

    /// Whether a second factor like this one, and a first whose channels are read 16 bytes at a time, can be copied.
    pub fn readable(&self) -> bool {
        let given = match self.of.mode {
            Some(Mode::Parts) => self.of.in_parts(),
            Some(mode) => mode != Mode::Bytes && self.columns,
            None => false,
        };
        let packed = self.windows.as_ref().filter(|w| w.packed).map(|w| w.image.channels);
        let single = self.windows.as_ref().is_some_and(|w| w.image.is_single());
        given && (single || self.of.directions[0] == (Along::Depth, packed.unwrap_or(16 / self.of.element)))
    }

    /// Bytes of an element in shared memory.
    pub fn stored(&self) -> u32 {
        if self.of.mode == Some(Mode::Tf32) { 4 } else { 2 }
    }

    /// Tiles of every factor for an element: its parts.
    pub fn planes(&self) -> u32 {
        if self.of.mode == Some(Mode::Parts) { 3 } else { 1 }
    }
}
