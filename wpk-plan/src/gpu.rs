//! What plans for GPUs launch.

use crate::codec::{Bytes, codec_struct};
use crate::library::Call;
use crate::{DType, Parts, Plan};

/// The plans for one GPU architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuPlans {
    /// The architecture, as `sm_80`.
    pub arch: String,
    /// One plan per bucket.
    pub plans: Vec<Plan>,
    /// The kernels that the plans launch.
    pub modules: Vec<Module>,
}
codec_struct!(GpuPlans { arch, plans, modules });

/// A generated kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// The name of its entry.
    pub entry: String,
    /// PTX.
    pub text: String,
    /// Threads of a block.
    pub threads: u32,
    /// Blocks of the grid.
    pub blocks: u32,
    /// Bytes of shared memory of a block.
    pub shared: u32,
    /// The arguments that it takes as descriptions instead of pointers.
    pub maps: Vec<TensorMap>,
    /// The argument that it takes in parts: a weight that lies in panels.
    pub parts: Option<Parts>,
    /// Whether it may start before the steps that it depends on have ended, because it waits for them itself.
    pub overlaps: bool,
    /// The text compiled ahead, for some devices.
    pub cubins: Vec<Cubin>,
    /// The call of a library that stands in for it, where that library is there.
    pub call: Option<Call>,
}
codec_struct!(Module { entry, text, threads, blocks, shared, maps, parts, overlaps, cubins, call });

/// An argument of two dimensions as copies of whole tiles take it (CUDA driver API, tensor map objects): each line of a tile takes 128 bytes of
/// shared memory, whose pieces of 16 bytes are exchanged (128-byte swizzle); beyond the extents are zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorMap {
    /// The argument's number.
    pub argument: u32,
    /// The element type.
    pub dtype: DType,
    /// Whether tiles hold [`f32` rounded to TF32](crate::number::tf32_even).
    pub rounds: bool,
    /// Bytes before the first element, a multiple of 16.
    pub offset: usize,
    /// Neighbouring elements of a line.
    pub depth: usize,
    /// Lines.
    pub lines: usize,
    /// Bytes from one line to the next, a multiple of 16.
    pub pitch: usize,
    /// Lines of a tile, at most 256.
    pub tile: u32,
    /// Whether lines of a tile lie in the order of [`TensorMap::line`].
    pub by_lane: bool,
    /// Where lines are what windows of images read: the images, whose columns lie a pitch apart.
    pub images: Option<Images>,
}
codec_struct!(TensorMap { argument, dtype, rounds, offset, depth, lines, pitch, tile, by_lane, images });

/// Images with their channels as lines, read by the windows of a convolution (im2col mode): line `i` of a map is what window `i` reads at one of
/// its positions, which every copy names. Rows and columns beyond the images are zeros. Of a pair the first is for rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Images {
    /// How many.
    pub count: usize,
    /// Rows and columns of one.
    pub extents: [usize; 2],
    /// Bytes from one row to the next, and from one image to the next.
    pub pitches: [usize; 2],
    /// Windows of an image.
    pub windows: [usize; 2],
    /// Where the first of them begins.
    pub first: [i64; 2],
    /// How far they lie apart.
    pub steps: [usize; 2],
}
codec_struct!(Images { count, extents, pitches, windows, first, steps });

impl Images {
    /// Where the last window of a row and of a column begins, counted from the image's last element.
    pub fn last(&self) -> [i64; 2] {
        [0, 1].map(|i| self.first[i] + ((self.windows[i] - 1) * self.steps[i]) as i64 - (self.extents[i] as i64 - 1))
    }

    fn fault(&self, lines: usize, pitch: usize) -> bool {
        let [rows, columns] = self.windows;
        let count = |n: &usize| (1..1 << 31).contains(n);
        let counts = self.count == 0 || ![rows, columns].iter().chain(&self.extents).all(count);
        let corner = |c: &i64| (-128..128).contains(c);
        // What the descriptions of four dimensions have bits for.
        counts
            || self.count.checked_mul(rows).and_then(|n| n.checked_mul(columns)) != Some(lines)
            || self.steps.iter().any(|s| !(1..=8).contains(s))
            || [(pitch, self.extents[1], self.pitches[0]), (self.pitches[0], self.extents[0], self.pitches[1])].iter().any(
                |(inner, count, outer)| {
                    *inner == 0 || !outer.is_multiple_of(*inner) || inner.checked_mul(*count).is_none_or(|n| n > *outer)
                },
            )
            || !self.first.iter().all(corner)
            || !self.last().iter().all(corner)
    }
}

impl TensorMap {
    /// Bytes of a tile's line.
    pub const LINE: usize = 128;

    /// Lines that change places among each other where they lie by lane.
    pub const LANES: usize = 32;

    /// Which line of a tile lies at a place. By lane of tensor cores: there a lane has the sums of two neighbours out of eight columns, and so of
    /// eight neighbours out of 32 that lie like this.
    pub fn line(&self, place: usize) -> usize {
        let (rest, within) = (place / Self::LANES * Self::LANES, place % Self::LANES);
        if self.by_lane { rest + within / 2 % 4 * 8 + within / 8 * 2 + within % 2 } else { place }
    }

    /// Bytes up to the end of the last line.
    pub fn bytes(&self) -> Option<usize> {
        let last = match &self.images {
            None => self.lines.checked_sub(1)?.checked_mul(self.pitch)?,
            Some(i) => {
                let reach = [(i.count, i.pitches[1]), (i.extents[0], i.pitches[0]), (i.extents[1], self.pitch)];
                reach.iter().try_fold(0usize, |at, (n, pitch)| at.checked_add(n.checked_sub(1)?.checked_mul(*pitch)?))?
            }
        };
        last.checked_add(self.depth.checked_mul(self.dtype.bytes())?)?.checked_add(self.offset)
    }

    /// Bytes of a tile.
    pub fn tile_bytes(&self) -> u32 {
        self.tile * Self::LINE as u32
    }

    /// What is wrong with it.
    pub fn fault(&self) -> Option<&'static str> {
        let size = self.dtype.bytes();
        match () {
            () if !matches!(size, 2 | 4) => Some("is of a type that tiles do not hold"),
            () if self.rounds && self.dtype != DType::F32 => Some("rounds what is no f32"),
            () if self.depth == 0 || self.lines == 0 || !(1..=256).contains(&self.tile) => Some("has extents that no tile has"),
            () if !self.pitch.is_multiple_of(16)
                || !self.offset.is_multiple_of(16)
                || self.depth.checked_mul(size).is_none_or(|line| line > self.pitch) =>
            {
                Some("has lines that overlap or are not aligned")
            }
            () if self.by_lane
                && (self.images.is_some()
                    || !self.lines.is_multiple_of(Self::LANES)
                    || !(self.tile as usize).is_multiple_of(Self::LANES)) =>
            {
                Some("has lines by lane that are no whole groups")
            }
            () if self.images.is_some_and(|i| i.fault(self.lines, self.pitch)) => Some("has images that no tile is copied from"),
            () => None,
        }
    }
}

/// A kernel compiled for one kind of device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cubin {
    /// The compute capability it runs on, as 90 for 9.0.
    pub capability: u32,
    /// What the driver loads.
    pub image: Bytes,
}
codec_struct!(Cubin { capability, image });

impl Module {
    /// Bytes of shared memory that a kernel may declare; more is given at launch.
    pub const STATIC_SHARED: u32 = 48 << 10;
}

#[cfg(test)]
mod tests {
    use super::{Images, TensorMap};
    use crate::DType;

    #[test]
    fn images_that_no_tile_is_copied_from() {
        // Two images of 5 by 7 with 64 channels, windows of 3 by 3 with a step of two and padding.
        let good = Images { count: 2, extents: [5, 7], pitches: [7 * 128, 5 * 7 * 128], windows: [3, 4], first: [-1, -1], steps: [2, 2] };
        let fault = |images: Images| {
            let map = TensorMap {
                argument: 0,
                dtype: DType::F16,
                rounds: false,
                offset: 0,
                depth: 64,
                lines: 24,
                pitch: 128,
                tile: 64,
                by_lane: false,
                images: Some(images),
            };
            map.fault()
        };
        assert_eq!((fault(good), good.last()), (None, [-1, -1]));
        let bad = [
            Images { count: 3, ..good },
            Images { windows: [0, 4], ..good },
            Images { windows: [usize::MAX, 4], ..good },
            Images { extents: [5, usize::MAX], ..good },
            Images { pitches: [7 * 128 - 16, 5 * 7 * 128], ..good },
            Images { first: [-1, i64::MAX], ..good },
            Images { first: [-129, -1], ..good },
            Images { steps: [2, 9], ..good },
        ];
        bad.into_iter().for_each(|images| assert!(fault(images).is_some(), "{images:?}"));
    }
}
