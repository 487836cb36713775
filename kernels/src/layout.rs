//! Layouts of shared memory: rows of bytes, exchanged within a row so that what a warp reads together lies in different banks.

use crate::dsl::{Val, Writer};
use crate::ptx::{Op, Ty};

/// Exchanges bits of an offset: bits `base..base + bits` are added, without carry, to those `shift` above them (the swizzle
/// functor of CUTLASS's CuTe). It is its own inverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swizzle {
    /// How many bits.
    pub bits: u32,
    /// The lowest of them.
    pub base: u32,
    /// How far above the bits lie that they are exchanged by, at least `bits`.
    pub shift: u32,
}

impl Swizzle {
    /// Nothing is exchanged.
    pub const NONE: Self = Self { bits: 0, base: 4, shift: 3 };

    /// For rows of a power of two of bytes, at least 16: eight neighbouring rows, read at the same 16 bytes, cover every bank.
    pub fn of_rows(pitch: u32) -> Self {
        let log = pitch.ilog2();
        Self { bits: (log - 4).min(3), base: 4, shift: (log - 4).max(3) }
    }

    fn mask(self) -> u32 {
        ((1 << self.bits) - 1) << self.base
    }

    /// Where the byte at an offset is put.
    pub fn apply(self, offset: u32) -> u32 {
        offset ^ (offset >> self.shift & self.mask())
    }

    /// The same for an offset that the kernel computes.
    pub fn emit(self, k: &mut Writer, offset: Val) -> Val {
        if self.bits == 0 {
            return offset;
        }
        let (shift, mask) = (k.int(i64::from(self.shift), Ty::U32), k.int(i64::from(self.mask()), Ty::U32));
        let high = k.op(Ty::U32, Op::Shr, &[offset, shift]);
        let high = k.op(Ty::U32, Op::And, &[high, mask]);
        k.op(Ty::U32, Op::Xor, &[offset, high])
    }
}

/// Rows of bytes in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// Bytes from one row to the next.
    pub pitch: u32,
    /// What is exchanged.
    pub swizzle: Swizzle,
}

impl Rows {
    /// Rows after which exchanges repeat: rows so far apart lie at constant distances.
    pub const PERIOD: u32 = 8;

    /// Rows one after another, exchanged.
    pub fn swizzled(pitch: u32) -> Self {
        Self { pitch, swizzle: Swizzle::of_rows(pitch) }
    }

    /// Rows with bytes added to each.
    pub fn padded(bytes: u32, padding: u32) -> Self {
        Self { pitch: bytes + padding, swizzle: Swizzle::NONE }
    }

    /// Rows of which eight neighbours, read at the same 16 bytes, lie in different banks: exchanged where their size is a power of
    /// two, else padded to an odd number of 16 bytes.
    pub fn for_matrices(bytes: u32) -> Self {
        if bytes.is_power_of_two() { Self::swizzled(bytes) } else { Self::padded(bytes, 16 * (1 + bytes / 16 % 2)) }
    }

    /// The offset of a byte of a row.
    pub fn offset(&self, row: u32, byte: u32) -> u32 {
        self.swizzle.apply(row * self.pitch + byte)
    }

    /// The same for a place that the kernel computes.
    pub fn emit(&self, k: &mut Writer, row: Val, byte: Val) -> Val {
        let start = k.scaled(row, i64::from(self.pitch));
        let linear = k.add(start, byte);
        self.swizzle.emit(k, linear)
    }

    /// Whether rows repeat only as a whole period.
    pub fn is_swizzled(&self) -> bool {
        self.swizzle.bits > 0
    }
}

/// Bytes after which the swizzle of rows of 128 bytes repeats: eight rows.
pub const PERIOD: u32 = 8 * ROW;
/// Bytes of a row that descriptors name.
pub const ROW: u32 = 128;
/// Elements of half types in such a row: columns side by side at one depth are in panels of as many.
pub const PANEL: u32 = ROW / 2;

/// What products of warpgroups know of a factor in shared memory: rows of 128 bytes, exchanged as by [`Rows::swizzled`], depth along
/// the row, from a shared address on, which is the first row's plus the depth's bytes (PTX ISA, asynchronous warpgroup-level matrix shared
/// memory layout: matrix descriptor). Where a row holds columns instead, 64 of them at one depth, the next 64 lie `apart` bytes behind.
pub fn descriptor(k: &mut Writer, address: Val, apart: u32) -> Val {
    descriptor_of_rows(k, address, apart, PERIOD)
}

/// The same where eight rows lie so many bytes behind the eight before, and may begin at any row: bytes are exchanged by the bits of their
/// addresses, wherever a factor begins.
pub fn descriptor_of_rows(k: &mut Writer, address: Val, apart: u32, eight: u32) -> Val {
    shaped(k, address, EXCHANGED | u64::from((apart >> 4).max(1)) << 16 | u64::from(eight >> 4) << 32)
}

/// The same of rows of 16 bytes one behind the other, eight of which are a matrix: the next 16 bytes of depth are in a matrix so many bytes behind,
/// eight further rows in another. Matrices may share bytes.
pub fn descriptor_of_matrices(k: &mut Writer, address: Val, [deeper, eight]: [u32; 2]) -> Val {
    shaped(k, address, u64::from(deeper >> 4) << 16 | u64::from(eight >> 4) << 32)
}

fn shaped(k: &mut Writer, address: Val, shape: u64) -> Val {
    let four = k.int(4, Ty::U32);
    let start = k.within_block(address);
    let start = k.op(Ty::U32, Op::Shr, &[start, four]);
    let start = k.op(Ty::U64, Op::Convert(Ty::U32), &[start]);
    let shape = k.int(shape as i64, Ty::U64);
    k.op(Ty::U64, Op::Or, &[start, shape])
}

/// Of a descriptor: bytes are exchanged within 128.
const EXCHANGED: u64 = 1 << 62;

/// What a descriptor says.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// Where the factor begins.
    pub address: u32,
    /// How far apart columns are that lie side by side, or matrices along the depth.
    pub apart: u32,
    /// How far apart eight rows are from the next.
    pub eight: u32,
    /// Whether rows are 128 bytes, exchanged; else 16.
    pub exchanged: bool,
}

/// What [`descriptor`], [`descriptor_of_rows`] or [`descriptor_of_matrices`] made; `None` where it is something else.
pub fn described(bits: u64) -> Option<Described> {
    let field = |shift: u32| ((bits >> shift) as u32 & 0x3fff) << 4;
    let exchanged = bits & EXCHANGED != 0;
    (bits & !(EXCHANGED | 0x3fff_3fff_3fff) == 0).then_some(Described { address: field(0), apart: field(16), eight: field(32), exchanged })
}

#[cfg(test)]
mod tests {
    use super::{Rows, Swizzle};
    use std::collections::BTreeSet;

    const PITCHES: [u32; 5] = [32, 64, 128, 256, 512];

    #[test]
    fn a_swizzle_is_its_own_inverse() {
        for swizzle in PITCHES.map(Swizzle::of_rows) {
            (0..16384).for_each(|x| assert_eq!(swizzle.apply(swizzle.apply(x)), x, "{swizzle:?}"));
        }
    }

    #[test]
    fn bytes_stay_in_their_row_and_their_16() {
        for rows in PITCHES.map(Rows::swizzled) {
            let place = |r, b| rows.offset(r, b);
            for row in 0..32 {
                let all: BTreeSet<u32> = (0..rows.pitch).map(|b| place(row, b)).collect();
                assert_eq!(all, (row * rows.pitch..(row + 1) * rows.pitch).collect(), "{rows:?}");
                (0..rows.pitch).for_each(|b| assert_eq!(place(row, b) % 16, b % 16));
            }
        }
    }

    #[test]
    fn eight_rows_cover_every_bank() {
        for rows in [32, 64, 96, 128, 160, 256, 320, 512].map(Rows::for_matrices) {
            for (first, chunk) in (0..32).step_by(8).flat_map(|r| (0..rows.pitch / 16).map(move |c| (r, c))) {
                let banks: BTreeSet<u32> = (first..first + 8).map(|r| rows.offset(r, chunk * 16) % 128 / 16).collect();
                assert_eq!(banks.len(), 8, "{rows:?} rows from {first} at {chunk}");
            }
        }
    }

    #[test]
    fn rows_repeat_after_a_period() {
        for rows in PITCHES.map(Rows::swizzled) {
            for (row, byte) in (0..16).flat_map(|r| (0..rows.pitch).map(move |b| (r, b))) {
                assert_eq!(rows.offset(row + Rows::PERIOD, byte), rows.offset(row, byte) + Rows::PERIOD * rows.pitch);
            }
        }
    }

    /// A constant that shares no bit with an offset inside a row may be exchanged in afterwards.
    #[test]
    fn disjoint_bits_commute_with_the_swizzle() {
        for rows in PITCHES.map(Rows::swizzled) {
            for (row, chunk) in (0..16).flat_map(|r| (0..2).map(move |c| (r, c))) {
                for step in 0..rows.pitch / 32 {
                    assert_eq!(rows.offset(row, chunk * 16 + step * 32), rows.offset(row, chunk * 16) ^ (step * 32));
                }
            }
        }
    }
}
