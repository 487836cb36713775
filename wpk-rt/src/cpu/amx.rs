//! Products by tiles (Intel AMX): sixteen rows by sixteen columns at a time, of 64 bytes of depth each. Two tiles of rows and two of columns are in use at
//! once, and their four tiles of sums.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18; `arch_prctl` of Linux for the permission to use tiles.

use super::ahead::Ahead;
use super::copied::Factors;
use super::isa;
use super::microkernel::STRIDE;
use super::split::PAIRS;
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// Bytes of depth from which on tiles are faster than vectors of bytes.
pub(super) const DEPTH: usize = 192;
/// Rows of a tile of sums, by panels.
pub(super) const ROWS: &[usize] = &[32, 32];
/// Products of bfloat16, by its bit of leaf 7 in `edx`.
pub(super) const BF16: u32 = 1 << 22;
/// Products of bytes.
pub(super) const INT8: u32 = 1 << 25;

/// Whether this machine has tiles and such products, and this process may use them.
pub(super) fn has(products: u32) -> bool {
    static FOUND: OnceLock<u32> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        const TILES: u32 = 1 << 24;
        let bits = __cpuid_count(7, 0).edx;
        if bits & TILES == 0 || isa::isa() != isa::Isa::Avx512 || isa::forced() == "avx512" {
            return 0;
        }
        let (arch_prctl, request, tile_data) = (158i64, 0x1023u64, 18u64);
        let answer: i64;
        // SAFETY: the call changes nothing but what this process may use.
        unsafe {
            asm!("syscall", inlateout("rax") arch_prctl => answer, in("rdi") request, in("rsi") tile_data, out("rcx") _, out("r11") _, options(nostack));
        }
        if answer == 0 { bits } else { 0 }
    });
    found & products != 0
}

/// Bytes of a tile's row, of which it has at most sixteen.
const ROW: usize = 64;
const TILE: usize = 16 * ROW;
/// A row.
#[repr(align(64))]
pub(super) struct Line(pub(super) [u8; ROW]);
pub(super) static ZEROS: Line = Line([0; ROW]);

/// What a kernel is called with, which it reads by offsets.
#[repr(C)]
struct Call {
    /// The first sixteen rows, and the second.
    a: [*const u8; 2],
    /// Two panels.
    b: [*const u8; 2],
    /// Tiles of depth.
    steps: usize,
    /// The last tile of both panels where it is no whole one.
    rest: [*const u8; 2],
    /// What sums begin with, and bytes from a row of it to the next.
    first: [*const u8; 4],
    along: usize,
    /// The sums of the first rows, and of the second.
    out: [*mut u8; 2],
    /// What is multiplied next: of panels that are made, pairs of a step, and those that are left.
    ahead: *const Ahead,
    pairs: usize,
    left: usize,
    turns: *const u16,
}

/// For [`super::copied::Form`]: the shapes of tiles, sums 0 to 3, rows 4 and 5, columns 6 and 7, for so many rows; tiles are given back where there are none.
/// Those of the second sixteen rows are none where there are none.
pub(super) unsafe fn shape(rows: usize) {
    if rows == 0 {
        // SAFETY: no tile is in use.
        return unsafe { asm!("tilerelease", options(nostack)) };
    }
    let (first, second) = (rows.min(16) as u8, rows.saturating_sub(16) as u8);
    unsafe { shapes([first, first, second, second, first, second, 16, 16]) }
}

/// Tells the rows of all tiles.
pub(super) unsafe fn shapes(rows: [u8; 8]) {
    let mut shapes = Line([0; ROW]);
    shapes.0[0] = 1;
    for (tile, rows) in rows.into_iter().enumerate() {
        shapes.0[16 + 2 * tile] = if rows == 0 { 0 } else { ROW as u8 };
        shapes.0[48 + tile] = rows;
    }
    // SAFETY: the shapes are those that the instruction knows, and no tile is in use.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &shapes, options(nostack)) }
}

/// Asks for a step's lines of what is multiplied next.
macro_rules! fetch {
    (begin) => {
        "mov {lines}, [{ahead} + {at_lines}]
        mov {ahead}, [{ahead} + {at_from}] # not {at_to} {at_pairs} {at_left} {at_turns}"
    };
    (step) => {
        "mov {left}, {lines}
        test {left}, {left}
        jz 6f
        5:
        prefetcht1 [{ahead}]
        add {ahead}, 64
        dec {left}
        jnz 5b
        6:"
    };
}

/// Parts a pair of lines of numbers, from an address to where a line of the first part is; places of pairs are in `zmm30`, and what keeps upper halves in `zmm31`.
macro_rules! part {
    ($($from:literal)* => $($to:literal)*) => {
        concat!(
            "vmovups zmm0, [", $($from,)* "]
            vmovups zmm1, [", $($from,)* " + 64]
            vmovdqa64 zmm2, zmm0
            vpermt2w zmm2, zmm30, zmm1
            vmovdqu64 [", $($to,)* "], zmm2
            vpandd zmm3, zmm0, zmm31
            vpandd zmm4, zmm1, zmm31
            vsubps zmm0, zmm0, zmm3
            vsubps zmm1, zmm1, zmm4
            vmovdqa64 zmm2, zmm0
            vpermt2w zmm2, zmm30, zmm1
            vmovdqu64 [", $($to,)* " + 1024], zmm2
            vpandd zmm3, zmm0, zmm31
            vpandd zmm4, zmm1, zmm31
            vsubps zmm0, zmm0, zmm3
            vsubps zmm1, zmm1, zmm4
            vpermt2w zmm0, zmm30, zmm1
            vmovdqu64 [", $($to,)* " + 2048], zmm0\n"
        )
    };
}
pub(super) use part;

/// Makes a step's pairs of what is multiplied next, as `panels` in [`super::split`] does: vector instructions meanwhile cost next to nothing, nor does waiting
/// for memory. Lines of a tile end where addresses are multiples of its bytes.
macro_rules! make {
    (begin) => {
        "mov {lines}, [{ahead} + {at_to}] # not {at_lines}
        mov {ahead}, [{ahead} + {at_from}]
        mov {left}, [{call} + {at_turns}]
        vmovdqu64 zmm30, [{left}]
        mov {left:e}, 0xffff0000
        vpbroadcastd zmm31, {left:e}"
    };
    (step) => {
        concat!(
            "mov {left}, [{call} + {at_pairs}]
        cmp {left}, [{call} + {at_left}]
        cmova {left}, [{call} + {at_left}]
        sub [{call} + {at_left}], {left}
        test {left}, {left}
        jz 6f
        5:\n",
            part!("{ahead}" => "{lines}"),
            "prefetcht1 [{ahead} + 1536]
        prefetcht1 [{ahead} + 1600]
        add {ahead}, 128
        add {lines}, 64
        test {lines:e}, 1023
        jnz 7f
        add {lines}, 2048
        7:
        dec {left}
        jnz 5b
        6:"
        )
    };
}

/// An instruction, where a kernel of one or two tiles of rows and of columns has it: rows' tiles are loaded (`a0`, `a1`), and columns' (`b0`, `b1`), from an
/// offset; sums are begun or stored (`s00` to `s11`), and products added to them (`p00` to `p11`).
#[rustfmt::skip]
macro_rules! piece {
    ($m:ident $n:ident $p:tt [a0 $at:literal]) => { concat!("tileloadd tmm4, [{a0} + {line}*1 + ", $at, "]\n") };
    (two $n:ident $p:tt [a1 $at:literal]) => { concat!("tileloadd tmm5, [{a1} + {line}*1 + ", $at, "]\n") };
    ($m:ident $n:ident $p:tt [b0 $at:literal]) => { concat!("tileloadd tmm6, [{b0} + {line}*1 + ", $at, "]\n") };
    ($m:ident two $p:tt [b1 $at:literal]) => { concat!("tileloadd tmm7, [{b1} + {line}*1 + ", $at, "]\n") };
    ($m:ident $n:ident $p:tt [p00]) => { concat!($p, " tmm0, tmm4, tmm6\n") };
    ($m:ident two $p:tt [p01]) => { concat!($p, " tmm1, tmm4, tmm7\n") };
    (two $n:ident $p:tt [p10]) => { concat!($p, " tmm2, tmm5, tmm6\n") };
    (two two $p:tt [p11]) => { concat!($p, " tmm3, tmm5, tmm7\n") };
    ($m:ident $n:ident zero [s00]) => { "tilezero tmm0\n" };
    ($m:ident two zero [s01]) => { "tilezero tmm1\n" };
    (two $n:ident zero [s10]) => { "tilezero tmm2\n" };
    (two two zero [s11]) => { "tilezero tmm3\n" };
    ($m:ident $n:ident load [s00]) => { "tileloadd tmm0, [{a0} + {line}*1]\n" };
    ($m:ident two load [s01]) => { "tileloadd tmm1, [{a1} + {line}*1]\n" };
    (two $n:ident load [s10]) => { "tileloadd tmm2, [{b0} + {line}*1]\n" };
    (two two load [s11]) => { "tileloadd tmm3, [{b1} + {line}*1]\n" };
    ($m:ident $n:ident store [s00]) => { "tilestored [{a0} + {row}*1], tmm0\n" };
    ($m:ident two store [s01]) => { "tilestored [{a0} + {row}*1 + 64], tmm1\n" };
    (two $n:ident store [s10]) => { "tilestored [{a1} + {row}*1], tmm2\n" };
    (two two store [s11]) => { "tilestored [{a1} + {row}*1 + 64], tmm3\n" };
    ($($absent:tt)*) => { "" };
}

macro_rules! pieces {
    ($m:ident $n:ident $p:tt $($piece:tt)*) => { concat!($(piece!($m $n $p $piece)),*) };
}

/// The products of factors of one part. A tile is loaded between products of others: loads wait for products before them in the same tile alone.
macro_rules! whole {
    (bytes) => { "1024" };
    ($m:ident $n:ident $p:literal) => { pieces!($m $n $p [a0 0] [b0 0] [p00] [b1 0] [p01] [a1 0] [p10] [p11]) };
}

/// The six products that count of factors of three parts, the smallest first but for those that share a tile with the one before: rows 0 by
/// columns 2 and 1, rows 1 by columns 1 and 0, rows 2 by columns 0, rows 0 by columns 0.
macro_rules! parts {
    (bytes) => { "3072" };
    ($m:ident $n:ident $p:literal) => {
        pieces!($m $n $p
            [a0 0] [b0 2048] [p00] [b1 2048] [p01] [a1 0] [p10] [b0 1024] [p11] [b1 1024]
            [p00] [p01] [a0 1024] [p10] [p11] [a1 1024]
            [p00] [p10] [b0 0] [p01] [p11] [b1 0]
            [p00] [p01] [a0 2048] [p10] [p11] [a1 2048]
            [p00] [p01] [a0 0] [p10] [p11] [a1 0]
            [p00] [p01] [p10] [p11])
    };
}

/// A kernel of one or two tiles of rows and of columns.
macro_rules! kernel {
    ($name:ident: $m:ident $n:ident, $step:ident, $ahead:ident, $product:literal, $begin:ident) => {
        #[target_feature(enable = "avx512f")]
        unsafe fn $name(call: &mut Call) {
            // SAFETY: the caller's pointers are valid for the shapes that were told; no tile is in use before or after.
            unsafe {
                asm!(
                    "mov {a0}, [{call} + {at_first}]",
                    "mov {a1}, [{call} + {at_first} + 8]",
                    "mov {b0}, [{call} + {at_first} + 16]",
                    "mov {b1}, [{call} + {at_first} + 24]",
                    "mov {line}, [{call} + {at_along}]",
                    pieces!($m $n $begin [s00] [s01] [s10] [s11]),
                    "mov {a0}, [{call} + {at_a}]",
                    "mov {a1}, [{call} + {at_a} + 8]",
                    "mov {b0}, [{call} + {at_b}]",
                    "mov {b1}, [{call} + {at_b} + 8]",
                    "mov {steps}, [{call} + {at_steps}]",
                    "mov {ahead}, [{call} + {at_ahead}]",
                    $ahead!(begin),
                    "mov {rest}, [{call} + {at_rest}]",
                    "mov {line}, 64",
                    "test {steps}, {steps}",
                    "jz 3f",
                    "2:",
                    $ahead!(step),
                    $step!($m $n $product),
                    concat!("add {a0}, ", $step!(bytes)),
                    concat!("add {a1}, ", $step!(bytes)),
                    concat!("add {b0}, ", $step!(bytes)),
                    concat!("add {b1}, ", $step!(bytes)),
                    "dec {steps}",
                    "jnz 2b",
                    "3:",
                    "test {rest}, {rest}",
                    "jz 4f",
                    "mov {b0}, {rest}",
                    "mov {b1}, [{call} + {at_rest} + 8]",
                    "xor {rest}, {rest}",
                    "mov {steps}, 1",
                    "jmp 2b",
                    "4:",
                    "mov {a0}, [{call} + {at_out}]",
                    "mov {a1}, [{call} + {at_out} + 8]",
                    "mov {row}, {stride}",
                    pieces!($m $n store [s00] [s01] [s10] [s11]),
                    call = in(reg) call,
                    a0 = out(reg) _, a1 = out(reg) _, row = out(reg) _, b0 = out(reg) _, b1 = out(reg) _,
                    steps = out(reg) _, rest = out(reg) _, line = out(reg) _, ahead = out(reg) _, lines = out(reg) _, left = out(reg) _,
                    at_a = const offset_of!(Call, a), at_b = const offset_of!(Call, b),
                    at_steps = const offset_of!(Call, steps), at_ahead = const offset_of!(Call, ahead), at_from = const offset_of!(Ahead, from), at_lines = const offset_of!(Ahead, lines), at_to = const offset_of!(Ahead, to),
                    at_pairs = const offset_of!(Call, pairs), at_left = const offset_of!(Call, left), at_turns = const offset_of!(Call, turns), at_rest = const offset_of!(Call, rest),
                    at_first = const offset_of!(Call, first), at_along = const offset_of!(Call, along), at_out = const offset_of!(Call, out), stride = const STRIDE * 4,
                    out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm30") _, out("zmm31") _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }
    };
}

/// The kernels of a product by tiles of rows and of columns, with one kind of step; sums begin with zeros, or are loaded.
macro_rules! kernels {
    ($module:ident: $step:ident, $ahead:ident, $product:literal, $begin:ident) => {
        mod $module {
            use super::{Ahead, Call, STRIDE};
            use std::arch::asm;
            use std::mem::offset_of;

            kernel!(one_by_one: one one, $step, $ahead, $product, $begin);
            kernel!(one_by_two: one two, $step, $ahead, $product, $begin);
            kernel!(two_by_one: two one, $step, $ahead, $product, $begin);
            kernel!(two_by_two: two two, $step, $ahead, $product, $begin);

            pub(super) unsafe fn run(call: &mut Call, rows: usize, panels: usize) {
                unsafe {
                    match (rows > 16, panels) {
                        (false, 1) => one_by_one(call),
                        (false, _) => one_by_two(call),
                        (true, 1) => two_by_one(call),
                        (true, _) => two_by_two(call),
                    }
                }
            }
        }
    };
}

kernels!(halves: whole, fetch, "tdpbf16ps", zero);
kernels!(thirds: parts, make, "tdpbf16ps", load);
kernels!(bytes: whole, fetch, "tdpbusd", load);

/// For [`super::copied::Form`]: bfloat16.
pub(super) unsafe fn pairs(f: &Factors) {
    let b = [f.b, f.b.wrapping_add(f.panel)];
    unsafe { multiply(halves::run, ([std::ptr::null(); 4], 0), f, b, (f.panel / TILE, f.ends)) }
}

/// For [`super::copied::Form`]: bytes, panels with what sums begin with before them.
pub(super) unsafe fn quads(f: &Factors) {
    let [left, right] = [f.b, f.b.wrapping_add(f.panel)];
    let b = [left, right].map(|p| p.wrapping_add(ROW));
    unsafe { multiply(bytes::run, ([left, right, left, right], 0), f, b, ((f.panel - ROW) / TILE, f.ends)) }
}

/// For [`super::copied::Form`]: `f32` in parts, of panels that end with a step.
pub(super) unsafe fn split(f: &Factors) {
    let sums = [0, ROW, 16 * STRIDE * 4, 16 * STRIDE * 4 + ROW].map(|at| f.tile.wrapping_add(at).cast_const());
    let (first, along) = if f.adds { (sums, STRIDE * 4) } else { ([ZEROS.0.as_ptr(); 4], 0) };
    unsafe { multiply(thirds::run, (first, along), f, [f.b, f.b.wrapping_add(f.panel)], (f.groups, [std::ptr::null(); 2])) }
}

/// Kernels by rows and panels.
type Run = unsafe fn(&mut Call, usize, usize);

/// By panels of so many steps and what follows them.
unsafe fn multiply(
    run: Run,
    (first, along): ([*const u8; 4], usize),
    f: &Factors,
    b: [*const u8; 2],
    (steps, rest): (usize, [*const u8; 2]),
) {
    let out = [f.tile, f.tile.wrapping_add(16 * STRIDE * 4)];
    let (a, left) = ([f.a, f.a.wrapping_add(f.row)], f.ahead.pairs);
    let pairs = left.div_ceil(f.groups.max(1));
    let mut call = Call { a, b, steps, rest, first, along, out, ahead: &f.ahead, pairs, left, turns: PAIRS.as_ptr() };
    unsafe { run(&mut call, f.rows, f.panels) }
}
