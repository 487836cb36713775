//! What plans for GPUs launch.

use crate::codec::{Bytes, codec_struct};
use crate::library::Call;
use crate::{DType, Plan};

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
    /// Whether it may start before the steps that it depends on have ended, because it waits for them itself.
    pub overlaps: bool,
    /// The text compiled ahead, for some devices.
    pub cubins: Vec<Cubin>,
    /// The call of a library that stands in for it, where that library is there.
    pub call: Option<Call>,
}
codec_struct!(Module { entry, text, threads, blocks, shared, maps, overlaps, cubins, call });

/// An argument of two dimensions as copies of whole tiles take it (CUDA driver API, tensor map objects): each line of a tile takes 128 bytes of
/// shared memory, whose pieces of 16 bytes are exchanged (128-byte swizzle); beyond the extents are zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorMap {
    /// The argument's number.
    pub argument: u32,
    /// The element type.
    pub dtype: DType,
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
}
codec_struct!(TensorMap { argument, dtype, offset, depth, lines, pitch, tile });

impl TensorMap {
    /// Bytes of a tile's line.
    pub const LINE: usize = 128;

    /// Bytes up to the end of the last line.
    pub fn bytes(&self) -> Option<usize> {
        let last = self.lines.checked_sub(1)?.checked_mul(self.pitch)?;
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
            () if self.depth == 0 || self.lines == 0 || !(1..=256).contains(&self.tile) => Some("has extents that no tile has"),
            () if !self.pitch.is_multiple_of(16)
                || !self.offset.is_multiple_of(16)
                || self.depth.checked_mul(size).is_none_or(|line| line > self.pitch) =>
            {
                Some("has lines that overlap or are not aligned")
            }
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
