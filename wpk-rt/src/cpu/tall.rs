//! Products in parts ([`super::split`]) of at most 64 rows: four tiles of rows by one panel at a time. Every number of a panel is read once,
//! and parted a step before it is multiplied, into one of two steps' memory that never leaves the first cache.

use super::amx::{ZEROS, part};
use super::copied::Factors;
use super::microkernel::STRIDE;
use super::split::PAIRS;
use std::arch::asm;
use std::mem::offset_of;

/// Rows at once, by panels.
pub(super) const ROWS: &[usize] = &[TILES * 16];
/// Tiles of rows.
pub(super) const TILES: usize = 4;
/// Bytes of a panel's numbers of a step.
const STEP: usize = 2048;
/// Steps from those that are parted to those that are asked for.
const LATER: usize = 4;
/// The least number of steps of a panel.
pub(super) const STEPS: usize = LATER + 2;

/// For [`super::copied::Form`]: shapes of tiles for so many rows: sums 0 to 3, rows 4 and 5, columns 6 and 7.
pub(super) unsafe fn shape(rows: usize) {
    let height = rows.div_ceil(TILES);
    unsafe { super::amx::shapes([height, height, height, height, height, height, 16, 16].map(|rows| rows as u8)) }
}

/// Asks for a line of all tiles of rows of the next step.
macro_rules! fetch {
    ($($tile:literal)*: $line:literal) => {
        concat!($(
            "prefetcht0 [{", $tile, "} + 3072 + 64*", $line, "]
            prefetcht0 [{", $tile, "} + 4096 + 64*", $line, "]
            prefetcht0 [{", $tile, "} + 5120 + 64*", $line, "]\n",
        )*)
    };
}

/// Parts a pair of lines, the `line`th of a step, and asks for those of a later step.
macro_rules! make {
    ($line:literal) => {
        concat!(
            fetch!("a0" "a1" "a2" "a3": $line),
            "prefetcht0 [{later} + 128*", $line, "]
            prefetcht0 [{later} + 128*", $line, " + 64]\n",
            part!("{ahead} + 128*" $line => "{to} + 64*" $line),
        )
    };
}

/// The products of a part of four tiles of rows by columns in a tile, with some lines made between them.
macro_rules! products {
    (rows $part:literal by $columns:literal, $($line:literal)*) => {
        concat!(
            "tileloadd tmm4, [{a0} + {row}*1 + 1024*", $part, "]\n",
            "tileloadd tmm5, [{a1} + {row}*1 + 1024*", $part, "]\n",
            "tdpbf16ps tmm0, tmm4, ", $columns, "\n",
            "tileloadd tmm4, [{a2} + {row}*1 + 1024*", $part, "]\n",
            "tdpbf16ps tmm1, tmm5, ", $columns, "\n",
            "tileloadd tmm5, [{a3} + {row}*1 + 1024*", $part, "]\n",
            "tdpbf16ps tmm2, tmm4, ", $columns, "\n",
            $(make!($line),)*
            "tdpbf16ps tmm3, tmm5, ", $columns, "\n",
        )
    };
}

/// Loads or stores the four tiles of sums, by an instruction before and behind their numbers.
macro_rules! sums {
    ($before:literal, $behind:literal, $at:literal) => {
        sums!($before, $behind, $at: "0" "0", "8" "1", "16" "2", "24" "3")
    };
    ($before:literal, $behind:literal, $at:literal: $($byte:literal $tile:literal),*) => {
        concat!($("mov {a0}, [{call} + ", $at, " + ", $byte, "]\n", $before, $tile, $behind, "\n"),*)
    };
}

/// What the kernel is called with, which it reads by offsets.
#[repr(C)]
struct Call {
    /// Tiles of rows, of what sums begin with, and of sums.
    a: [*const u8; TILES],
    first: [*const u8; TILES],
    out: [*mut u8; TILES],
    /// Bytes from a row of what sums begin with to the next.
    along: usize,
    /// Where the second step is made, and the numbers of the next panel.
    to: *mut u8,
    next: *const u8,
}

/// For [`super::copied::Form`]: panels of [`STEPS`] or more, of which the first step is made.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn multiply(f: &Factors) {
    const SUMS: usize = STRIDE * 4;
    let out = [0, 1, 2, 3].map(|tile| f.tile.wrapping_add(tile * f.rows.div_ceil(TILES) * SUMS));
    let (first, along) = if f.adds { (out.map(<*mut u8>::cast_const), SUMS) } else { ([ZEROS.0.as_ptr(); TILES], 0) };
    let a = [0, 1, 2, 3].map(|tile| f.a.wrapping_add(tile * f.row));
    let call = Call { a, first, out, along, to: f.ahead.to, next: f.ahead.next };
    // SAFETY: the caller's pointers are valid for the shapes that were told; no tile is in use before or after.
    unsafe {
        asm!(
            "mov {row}, [{call} + {at_along}]",
            sums!("tileloadd tmm", ", [{a0} + {row}*1]", "{at_first}"),
            "vmovdqu64 zmm30, [{to}]",
            "mov {to:e}, 0xffff0000",
            "vpbroadcastd zmm31, {to:e}",
            "mov {a0}, [{call} + {at_a}]",
            "mov {a1}, [{call} + {at_a} + 8]",
            "mov {a2}, [{call} + {at_a} + 16]",
            "mov {a3}, [{call} + {at_a} + 24]",
            "mov {to}, [{call} + {at_to}]",
            "mov {row}, 64",
            "2:",
            // The smallest first but for those that share a tile of columns.
            "tileloadd tmm6, [{b} + {row}*1 + 2048]",
            products!(rows 0 by "tmm6", 0 1 2),
            "tileloadd tmm7, [{b} + {row}*1 + 1024]",
            products!(rows 0 by "tmm7", 3 4 5),
            products!(rows 1 by "tmm7", 6 7 8),
            "tileloadd tmm6, [{b} + {row}*1]",
            products!(rows 1 by "tmm6", 9 10 11),
            products!(rows 2 by "tmm6", 12 13),
            products!(rows 0 by "tmm6", 14 15),
            "add {a0}, 3072",
            "add {a1}, 3072",
            "add {a2}, 3072",
            "add {a3}, 3072",
            "xchg {b}, {to}",
            // The next panel follows the last step.
            "add {ahead}, 2048",
            "cmp {steps}, 2",
            "cmove {ahead}, [{call} + {at_next}]",
            "add {later}, 2048",
            "cmp {steps}, {steps_later}",
            "cmove {later}, [{call} + {at_next}]",
            "dec {steps}",
            "jnz 2b",
            "mov {row}, {stride}",
            sums!("tilestored [{a0} + {row}*1], tmm", "", "{at_out}"),
            call = in(reg) &call, to = inout(reg) PAIRS.as_ptr() => _, b = inout(reg) f.b => _, steps = inout(reg) f.groups => _,
            ahead = inout(reg) f.ahead.from => _, later = inout(reg) f.ahead.from.wrapping_add(LATER * STEP) => _,
            a0 = out(reg) _, a1 = out(reg) _, a2 = out(reg) _, a3 = out(reg) _, row = out(reg) _,
            at_a = const offset_of!(Call, a), at_first = const offset_of!(Call, first), at_out = const offset_of!(Call, out),
            at_along = const offset_of!(Call, along), at_to = const offset_of!(Call, to), at_next = const offset_of!(Call, next),
            stride = const SUMS, steps_later = const LATER + 2,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm30") _, out("zmm31") _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        );
    }
}
