//! What the windows of a tile read of an image, in shared memory: pixel by pixel, channels side by side.

use super::images::{Side, Sides};
use super::products::{Mode, Words, part_of};
use super::scalar;
use crate::dsl::{Val, Writer};
use crate::layout::{PERIOD, ROW, Rows as Lines, Swizzle};
use crate::ptx::{MemTy, Op, Ty};
use wpk_plan::problem::Contraction;

/// Where the pixels of images are, and which of them windows begin at.
pub struct Image {
    pub base: i64,
    /// Elements from an image, a row and a pixel to the next.
    pub strides: [i64; 3],
    pub extents: [u32; 2],
    pub first: [i64; 2],
    /// Pixels from a window to the next, down and across.
    pub steps: [u32; 2],
    pub channels: u32,
    /// How many of the channels there are, where they are read one by one, and how far apart they lie.
    single: Option<(u32, i64)>,
}

impl Image {
    /// Whether channels are read one by one.
    pub fn is_single(&self) -> bool {
        self.single.is_some()
    }

    pub fn of(c: &Contraction, sides: &Sides) -> Option<Self> {
        let both = [&sides.rows, &sides.columns];
        let step = |s: &Side| u32::try_from(s.windows.map_or(1, |w| w.1)).ok();
        Some(Self {
            base: c.a.offset as i64,
            strides: [sides.image.stride, sides.rows.stride, sides.columns.stride],
            extents: both.map(|s| s.extent as u32),
            first: both.map(|s| s.first),
            steps: [step(both[0])?, step(both[1])?],
            channels: sides.channels as u32,
            single: (sides.given < sides.channels || c.given != c.dtype).then_some((sides.given as u32, sides.apart)),
        })
    }
}

/// How pixels lie in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixels {
    /// One behind the other without a gap.
    Packed,
    /// As products of warpgroups read rows: panels of 128 bytes of every pixel, bytes exchanged. Of so many pixels the first, the second and so on
    /// lie together, so that neighbouring windows begin at neighbours.
    Panels(u32),
}

/// The shape of what a block reads.
pub struct Patches {
    pixels: Pixels,
    /// Rows and pixels of a row.
    extents: [u32; 2],
    /// Channels of a group.
    channels: u32,
    /// Bytes of an element, and how many parts of it there are.
    stored: u32,
    planes: u32,
    /// Bytes from a pixel to the next, and how many of them there are side by side.
    pitch: u32,
    panels: u32,
    /// Threads that copy, and whether there is room for all of them to copy equally often, beyond the last pixel too: then nothing branches.
    threads: u32,
    even: bool,
}

/// Registers that one thread's loads may fill before the first of them is used.
const AHEAD: u32 = 8;

impl Patches {
    pub fn new(
        [down, across]: [u32; 2],
        (channels, groups): (u32, u32),
        (stored, planes): (u32, u32),
        (pixels, threads): (Pixels, u32),
    ) -> Self {
        let bytes = channels * groups * stored;
        let (pitch, across) = match pixels {
            // Rows of whole pieces of 16 bytes.
            Pixels::Packed => (bytes, across.next_multiple_of(16 / bytes.min(16))),
            Pixels::Panels(_) => (ROW, across),
        };
        let panels = if pitch == ROW { bytes.div_ceil(ROW) } else { 1 };
        Self { pixels, extents: [down, across], channels, stored, planes, pitch, panels, threads, even: true }
    }

    /// The same in so many bytes of shared memory.
    pub fn within(self, bytes: u32) -> Self {
        Self { even: self.bytes() <= bytes, ..self }
    }

    /// Pixels.
    pub fn count(&self) -> u32 {
        self.extents[0] * self.extents[1]
    }

    /// Bytes of a panel.
    fn panel(&self) -> u32 {
        let pixels = if self.even { self.copies() * self.at_once() } else { self.count() };
        (pixels * self.pitch).next_multiple_of(if self.pitch == ROW { PERIOD } else { 16 })
    }

    /// Bytes of one part of all.
    fn plane(&self) -> u32 {
        self.panels * self.panel()
    }

    /// For products of warpgroups: bytes from eight windows of a row to those below, which are `step` pixels lower.
    pub fn eight(&self, step: u32) -> u32 {
        step * self.extents[1] * ROW
    }

    /// For products of warpgroups: where windows' pixels so far down and across are, of a step of a group and a part.
    pub fn place(&self, [down, across]: [u32; 2], (group, step): (u32, u32), part: u32) -> u32 {
        let Pixels::Panels(apart) = self.pixels else { return 0 };
        // Those before it of which every one is an earlier of so many.
        let before: u32 = (0..across % apart).map(|i| (self.extents[1] - i).div_ceil(apart)).sum();
        let pixel = down * self.extents[1] + before + across / apart;
        let byte = group * self.channels * self.stored + 32 * step;
        part * self.plane() + byte / ROW * self.panel() + pixel * ROW + byte % ROW
    }

    pub fn bytes(&self) -> u32 {
        self.planes * self.plane()
    }

    /// Elements that are copied at once: 16 bytes as they are stored, or a pixel.
    fn vector(&self) -> u32 {
        self.channels.min(16 / self.stored)
    }

    /// Copies of a pixel and group.
    fn by_pixel(&self) -> u32 {
        self.channels / self.vector()
    }

    /// Pixels that all threads copy at once.
    fn at_once(&self) -> u32 {
        self.threads / self.by_pixel().min(self.threads)
    }

    /// Copies of a thread and group.
    pub fn copies(&self) -> u32 {
        self.count().div_ceil(self.at_once())
    }

    pub fn fits(&self) -> bool {
        let (each, threads) = (self.by_pixel(), self.threads);
        // Panels are exchanged in whole periods, by copies that stay within one.
        let whole = || ROW.is_multiple_of(self.channels * self.stored) && (threads / each).is_multiple_of(Lines::PERIOD);
        self.channels.is_multiple_of(self.vector()) && threads.is_multiple_of(each) && self.copies() <= 24 && (self.pitch != ROW || whole())
    }

    /// What a thread copies for the tile whose windows begin at `corner`, from some channel on, to `start`.
    pub fn begin<'a>(
        &'a self,
        k: &mut Writer,
        (c, mode): (&'a Contraction, Mode),
        i: &Image,
        thread: Val,
        (image, corner, channel): (Val, [Val; 2], Val),
        start: Val,
    ) -> Copies<'a> {
        let (pixel, piece) = k.div_rem(thread, self.by_pixel());
        let at_once = self.at_once();
        let signed = |v: Val| Val { ty: Ty::S32, ..v };
        let begin = [0, 1].map(|side| {
            let moved = k.scaled(signed(corner[side]), i64::from(i.steps[side]));
            k.plus(moved, i.first[side])
        });
        let piece = k.scaled(piece, i64::from(self.vector()));
        let image = k.scaled(signed(image), i.strides[0]);
        let channels = k.add(signed(channel), signed(piece));
        let own = k.add(image, channels);
        let own = k.plus(own, i.base);
        let copies = (0..self.copies()).map(|n| {
            let at = k.plus(pixel, i64::from(n * at_once));
            let (row, column) = k.div_rem(at, self.extents[1]);
            let column = self.column(k, column);
            let place = [k.add(begin[0], signed(row)), k.add(begin[1], signed(column))];
            let exists = ((n + 1) * at_once > self.count()).then(|| k.below(at, i64::from(self.count())));
            // As an unsigned number a negative index is beyond every extent.
            let inside = [0, 1].map(|side| k.below(Val { ty: Ty::U32, ..place[side] }, i64::from(i.extents[side])));
            let inside = inside.into_iter().fold(exists, |all, one| k.both(all, Some(one)));
            let moved = [0, 1].map(|side| k.scaled(place[side], i.strides[1 + side]));
            let from = k.add(own, moved[0]);
            (k.add(from, moved[1]), inside, exists.filter(|_| !self.even))
        });
        let copies = copies.collect();
        let (line, piece) = (k.scaled(pixel, i64::from(self.pitch)), k.scaled(piece, i64::from(self.stored)));
        let swizzle = if self.pitch == ROW { Swizzle::of_rows(ROW) } else { Swizzle::NONE };
        // Copies are whole periods of rows apart.
        let turn = swizzle.emit(k, line);
        let turn = k.op(Ty::U32, Op::Xor, &[turn, line]);
        Copies {
            of: self,
            c,
            mode,
            single: i.single,
            base: i.base,
            copies,
            line: k.add(start, line),
            piece,
            turn,
            apart: at_once * self.pitch,
        }
    }

    /// The column of an image's patch that lies at a place of a row.
    fn column(&self, k: &mut Writer, place: Val) -> Val {
        let Pixels::Panels(2) = self.pixels else { return place };
        let even = self.extents[1].div_ceil(2);
        let (first, second) = (k.scaled(place, 2), k.plus(place, -i64::from(even)));
        let second = k.scaled(second, 2);
        let second = k.plus(second, 1);
        let is_first = k.below(place, i64::from(even));
        k.select(is_first, first, second)
    }

    /// What a warp reads as rows: `count` windows from `first` on of a tile of so many rows and columns, some pixels apart.
    pub fn rows(&self, k: &mut Writer, tile: [u32; 2], steps: [u32; 2], (lane, first, count): (Val, Val, u32), start: Val) -> Rows<'_> {
        let (half, within) = k.div_rem(lane, 16);
        let half = k.scaled(half, 16);
        let bases = (0..count / 16).map(|block| {
            let row = k.plus(first, i64::from(16 * block));
            let row = k.add(row, within);
            let (down, across) = k.div_rem(row, tile[1]);
            let pixel = k.scaled(down, i64::from(steps[0] * self.extents[1]));
            let moved = k.scaled(across, i64::from(steps[1]));
            let pixel = k.add(pixel, moved);
            let (exists, none) = (k.below(row, i64::from(tile[0] * tile[1])), k.int(0, Ty::U32));
            let pixel = k.select(exists, pixel, none);
            let at = k.scaled(pixel, i64::from(self.pitch));
            let at = k.add(at, half);
            k.add(start, at)
        });
        let bases = bases.collect();
        let (_, t) = k.div_rem(lane, 4);
        Rows { of: self, bases, byte: k.scaled(t, 4) }
    }
}

/// What one thread copies of every group.
pub struct Copies<'a> {
    of: &'a Patches,
    c: &'a Contraction,
    mode: Mode,
    /// See [`Image`].
    single: Option<(u32, i64)>,
    /// The first element of the first image.
    base: i64,
    /// By copy: the element it begins at, whether that is one of the tile and the image, and whether there is room for it where not for all.
    copies: Vec<(Val, Option<Val>, Option<Val>)>,
    /// Where its first pixel is, its byte of a group there, and what that is exchanged by.
    line: Val,
    piece: Val,
    turn: Val,
    /// Bytes from a copy to the next.
    apart: u32,
}

impl Copies<'_> {
    /// Where the first copy of a group goes.
    fn to(&self, k: &mut Writer, group: u32) -> Val {
        let p = self.of;
        let byte = group * p.channels * p.stored;
        let (panel, within) = if p.pitch == ROW { (byte / ROW, byte % ROW) } else { (0, byte) };
        let piece = k.plus(self.piece, i64::from(within));
        let piece = if p.pitch == ROW { k.op(Ty::U32, Op::Xor, &[piece, self.turn]) } else { piece };
        let to = k.add(self.line, piece);
        k.plus(to, i64::from(panel * p.panel()))
    }

    /// Copies a group, asynchronously where elements stay as they are.
    pub fn copy(&self, k: &mut Writer, group: u32) {
        let p = self.of;
        let (vector, size) = (p.vector(), self.c.given.bytes());
        let deeper = i64::from(group * p.channels);
        let to = self.to(k, group);
        let offset = |n: u32| (n * self.apart) as i32;
        if let (Mode::Half(_), None) = (self.mode, self.single) {
            for (n, &(from, inside, room)) in (0..).zip(&self.copies) {
                let from = k.plus(from, deeper);
                let from = k.element(0, from, size);
                let (all, none) = (k.int(i64::from(vector * p.stored), Ty::U32), k.int(0, Ty::U32));
                let valid = inside.map_or(all, |inside| k.select(inside, all, none));
                k.when_some(room, |k| k.copy_async(vector * p.stored, to, offset(n), from, valid));
            }
            return;
        }
        let ahead = (AHEAD * 4 / vector).max(1) as usize;
        for (first, copies) in (0..).step_by(ahead).zip(self.copies.chunks(ahead)) {
            let loaded: Vec<Vec<Val>> = copies.iter().map(|&(from, inside, _)| self.load(k, (from, deeper), inside)).collect();
            for (n, (loaded, &(_, inside, room))) in (first..).zip(loaded.iter().zip(copies)) {
                let values = self.kept(k, loaded, inside);
                k.when_some(room, |k| self.store(k, &values, to, offset(n)));
            }
        }
    }

    /// Loads the channels of a copy in `f32`; where the pixel is not one of the image, those of one that is, so that nothing branches between loads.
    fn load(&self, k: &mut Writer, (from, deeper): (Val, i64), inside: Option<Val>) -> Vec<Val> {
        let dtype = self.c.given;
        let from = match inside {
            Some(inside) => {
                let any = k.int(self.base, Ty::S32);
                k.select(inside, from, any)
            }
            None => from,
        };
        let from = k.plus(from, deeper);
        match self.single {
            Some((count, apart)) => (0..i64::from(count))
                .map(|channel| {
                    let from = k.plus(from, channel * apart);
                    let address = k.element(0, from, dtype.bytes());
                    scalar::load_neighbours(k, dtype, address, 0, 1)[0]
                })
                .collect(),
            None => {
                let address = k.element(0, from, dtype.bytes());
                scalar::load_neighbours(k, dtype, address, 0, self.of.vector() as usize)
            }
        }
    }

    /// What was loaded, zeros outside of the image and where there are no channels.
    fn kept(&self, k: &mut Writer, loaded: &[Val], inside: Option<Val>) -> Vec<Val> {
        let zero = k.float(0.0, Ty::F32);
        let value = |i: usize| match (loaded.get(i), inside) {
            (Some(&x), Some(inside)) => k.select(inside, x, zero),
            (x, _) => x.copied().unwrap_or(zero),
        };
        (0..self.of.vector() as usize).map(value).collect()
    }

    /// Stores neighbouring channels as they are multiplied.
    fn store(&self, k: &mut Writer, values: &[Val], to: Val, offset: i32) {
        match self.mode {
            Mode::Tf32 => {
                let words: Vec<Val> = values.iter().map(|&x| k.op(Ty::U32, Op::ToTf32, &[x])).collect();
                k.store_at(MemTy::B32, to, offset, &words);
            }
            Mode::Parts => {
                // Eight channels in the order of `Parts::place`.
                let half = values.len() / 2;
                let mut rest: Vec<[Val; 2]> = (0..half).map(|i| [values[i], values[i + half]]).collect();
                for plane in 0..self.of.planes {
                    let more = plane + 1 < self.of.planes;
                    let words: Vec<Val> = rest.iter_mut().map(|two| part_of(k, two, more)).collect();
                    k.store_at(MemTy::B32, to, offset + (plane * self.of.plane()) as i32, &words);
                }
            }
            Mode::Half(half) => {
                let words: Vec<Val> = values.chunks(2).map(|two| k.op(Ty::U32, Op::Pack(half), &[two[1], two[0]])).collect();
                k.store_at(MemTy::B32, to, offset, &words);
            }
            Mode::Bytes => {}
        }
    }
}

/// What a warp reads as rows of a product.
pub struct Rows<'a> {
    of: &'a Patches,
    /// By 16 rows, where the lane's matrices begin.
    bases: Vec<Val>,
    /// The lane's byte of 16.
    byte: Val,
}

impl Rows<'_> {
    /// A block of 16 rows by 32 bytes of the depth, from a pixel of the windows on. Bytes behind the end of a piece are zeros: those are of pixels
    /// that the window does not have.
    pub fn read(&self, k: &mut Writer, block: u32, ([down, across], step): ([u32; 2], u32), end: u32) -> Words {
        let p = self.of;
        let pixel = (down * p.extents[1] + across) * p.pitch;
        let words = k.load_matrix(self.bases[block as usize], (pixel + 32 * step) as i32, 4, false);
        let keep = |(i, word): (u32, Val)| {
            let first = 32 * step + 16 * (i / 2);
            if first + 16 <= end {
                return word;
            }
            let (byte, zero) = (k.plus(self.byte, i64::from(first)), k.int(0, Ty::U32));
            let inside = k.below(byte, i64::from(end));
            k.select(inside, word, zero)
        };
        vec![(0..).zip(words).map(keep).collect()]
    }
}
