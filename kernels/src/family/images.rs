//! Convolutions as the copy engine sees them (im2col mode): the first factor is what windows read of images, at a position of theirs by block of
//! channels.

use super::engine::seen_of;
use crate::dsl::{Val, Writer};
use crate::ptx::Ty;
use wpk_plan::problem::{AccessDim, Contraction, Roles};
use wpk_plan::{Images, TensorMap};

/// Windows on images, and how a depth of the contraction is a position of theirs and a channel.
#[derive(Clone)]
pub struct Windows {
    images: Images,
    channels: usize,
    /// All depths.
    depth: usize,
    /// See [`Sides::taps`].
    taps: Vec<(usize, bool, i64)>,
    /// The first window of a block: its column, row and image.
    begin: Option<[Val; 3]>,
}

/// A dimension that windows go along.
pub struct Side {
    pub extent: usize,
    pub stride: i64,
    pub first: i64,
    /// The loop over windows, and how far they lie apart.
    pub windows: Option<(usize, i64)>,
    /// The loop over positions of a window, likewise.
    pub taps: Option<(usize, i64)>,
}

impl Side {
    fn of(d: &AccessDim, c: &Contraction) -> Option<Self> {
        let mut side = Self { extent: d.extent, stride: d.stride, first: d.index.offset, windows: None, taps: None };
        for (l, by) in d.index.terms.iter().map(|&(l, by)| (usize::from(l), by)).filter(|&(l, _)| c.space[l] > 1) {
            let which = if l < c.outer { &mut side.windows } else { &mut side.taps };
            if by < 1 || which.replace((l, by)).is_some() {
                return None;
            }
        }
        (d.index.divisor == 1).then_some(side)
    }

    /// A dimension that is not there.
    fn none(inner: &Self) -> Self {
        Self { extent: 1, stride: inner.stride * inner.extent as i64, first: 0, windows: None, taps: None }
    }

    /// How many windows there are along it.
    pub fn count(&self, c: &Contraction) -> usize {
        self.windows.map_or(1, |w| c.space[w.0])
    }
}

/// Windows on images.
pub struct Sides {
    pub image: Side,
    pub rows: Side,
    pub columns: Side,
    /// The loop over channels; those that are multiplied, how many of them there are, and how far apart they lie.
    pub channel: usize,
    pub channels: usize,
    pub given: usize,
    pub apart: i64,
}

impl Sides {
    /// The first factor of a contraction; `None` where it is something else.
    pub fn of(c: &Contraction, roles: &Roles) -> Option<Self> {
        // Channels side by side, or the last ones of a depth of which some are lacking.
        let lacking = roles.taps.last().copied().filter(|&l| c.lacking(l).is_some());
        Self::along(c, roles, lacking.or(roles.channel)?, lacking.is_some())
    }

    /// The same of two to four channels, wherever they lie.
    pub fn few(c: &Contraction, roles: &Roles) -> Option<Self> {
        let few = (c.outer..c.space.len()).filter(|&l| (2..=4).contains(&c.space[l]));
        few.filter_map(|l| Self::along(c, roles, l, true)).find(|sides| sides.given == sides.channels)
    }

    /// The same whose channels are a loop; they lie side by side, all of them, or anywhere.
    fn along(c: &Contraction, roles: &Roles, channel: usize, anywhere: bool) -> Option<Self> {
        let moves = |d: &&AccessDim| d.index.offset != 0 || d.index.terms.iter().any(|t| c.space[usize::from(t.0)] > 1);
        let (mut along, mut sides) = (None, vec![]);
        for d in c.a.dims.iter().filter(moves) {
            let side = Side::of(d, c)?;
            match side {
                Side { stride, first: 0, windows: None, taps: Some((l, 1)), extent } if l == channel => along = Some((stride, extent)),
                side => sides.push(side),
            }
        }
        let (apart, given) = along.filter(|&(stride, extent)| anywhere || stride == 1 && extent == c.space[channel])?;
        let columns = sides.pop()?;
        let rows = sides.pop().unwrap_or_else(|| Side::none(&columns));
        let image = sides.pop().unwrap_or_else(|| Side::none(&rows));
        let whole =
            |s: &Side| s.first == 0 && s.taps.is_none() && s.windows.map_or(s.extent == 1, |(l, by)| by == 1 && c.space[l] == s.extent);
        let order: Vec<usize> = [&image, &rows, &columns].iter().filter_map(|s| s.windows.map(|w| w.0)).collect();
        let expected: Vec<usize> = roles.m.iter().copied().filter(|&l| c.space[l] > 1).collect();
        (sides.is_empty() && whole(&image) && order == expected).then_some(Self {
            image,
            rows,
            columns,
            channel,
            channels: c.space[channel],
            given,
            apart,
        })
    }

    /// The positions of a window, slowest loop first: how many there are, whether they go along columns, and how far they lie apart.
    pub fn taps(&self, c: &Contraction, roles: &Roles) -> Option<Vec<(usize, bool, i64)>> {
        let loops = roles.taps.iter().filter(|&&l| c.space[l] > 1 && c.lacking(l).is_none());
        let tap = |&l: &usize| {
            let of = |s: &Side| s.taps.filter(|t| t.0 == l).map(|t| t.1);
            let (along, by) = of(&self.columns).map(|by| (true, by)).or_else(|| Some((false, of(&self.rows)?)))?;
            Some((c.space[l], along, by))
        };
        loops.map(tap).collect()
    }
}

/// The first factor of a contraction as windows on images, so many at once; `None` where it is something else.
pub fn images(c: &Contraction, roles: &Roles, tile: u32) -> Option<(TensorMap, Windows)> {
    let size = c.dtype.bytes();
    let sides = Sides::of(c, roles).filter(|s| s.given == s.channels && s.channels.is_multiple_of(TensorMap::LINE / size))?;
    let taps = sides.taps(c, roles)?;
    let Sides { image, rows, columns, channels, .. } = sides;
    taps.iter().all(|&(count, _, by)| (count as i64 - 1) * by < 256).then_some(())?;
    let bytes = |stride: i64| usize::try_from(stride).ok()?.checked_mul(size);
    let step = |s: &Side| s.windows.map_or(Some(1), |w| usize::try_from(w.1).ok());
    let images = Images {
        count: image.extent,
        extents: [rows.extent, columns.extent],
        pitches: [bytes(rows.stride)?, bytes(image.stride)?],
        windows: [rows.count(c), columns.count(c)],
        first: [rows.first, columns.first],
        steps: [step(&rows)?, step(&columns)?],
    };
    let (offset, pitch) = (c.a.offset.checked_mul(size)?, bytes(columns.stride)?);
    let (lines, depth) = (roles.count(&roles.m), channels);
    let map = TensorMap { offset, pitch, images: Some(images), ..seen_of(c, 0, [depth, lines], tile) };
    Some((map, Windows { images, channels, depth: roles.count(&roles.k()), taps, begin: None }))
}

impl Windows {
    /// For a block whose rows begin with window `first`.
    pub fn beginning(self, k: &mut Writer, first: Val) -> Self {
        let i = &self.images;
        let (rest, column) = k.div_rem(first, i.windows[1] as u32);
        let (image, row) = k.div_rem(rest, i.windows[0] as u32);
        let place = |k: &mut Writer, side: usize, number: Val| {
            let moved = k.scaled(Val { ty: Ty::S32, ..number }, i.steps[side] as i64);
            k.plus(moved, i.first[side])
        };
        let begin = [place(k, 1, column), place(k, 0, row), Val { ty: Ty::S32, ..image }];
        Self { begin: Some(begin), ..self }
    }

    /// Where a tile at some depth is copied from, and at which column and row of windows.
    pub fn at(&self, k: &mut Writer, depth: Val) -> (Vec<Val>, [Val; 2]) {
        let (mut rest, channel) = k.div_rem(depth, self.channels as u32);
        let none = k.int(0, Ty::U32);
        let mut window = [none; 2];
        for &(count, along, by) in self.taps.iter().rev() {
            let (next, position) = k.div_rem(rest, count as u32);
            rest = next;
            window[usize::from(!along)] = k.scaled(position, by);
        }
        // Behind the last depth channels that do not exist are zeros, where the position may be one that does.
        let exists = k.below(depth, self.depth as i64);
        let beyond = k.int(self.channels as i64, Ty::U32);
        let channel = k.select(exists, channel, beyond);
        let at = [Val { ty: Ty::S32, ..channel }].into_iter().chain(self.begin.into_iter().flatten());
        (at.collect(), window)
    }
}
