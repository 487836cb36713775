//! Products by tiles (Intel AMX): sixteen rows by sixteen columns at a time, of 64 bytes of depth each. Two tiles of rows and two of columns are in use at
//! once, and their four tiles of sums.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18; `arch_prctl` of Linux for the permission to use tiles.

use super::copied::Ahead;
use super::isa;
use super::microkernel::STRIDE;
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// Bytes of depth from which on tiles are faster than vectors.
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
    /// What the sums of both panels begin with.
    first: [*const u8; 2],
    /// The sums of the first rows, and of the second.
    out: [*mut u8; 2],
    /// What is multiplied next.
    ahead: *const Ahead,
}

/// For [`super::copied::Form`]: the shapes of tiles, sums 0 to 3, rows 4 and 5, columns 6 and 7, for so many rows; tiles are given back where there are none.
/// Those of the second sixteen rows are none where there are none.
pub(super) unsafe fn shape(rows: usize) {
    if rows == 0 {
        // SAFETY: no tile is in use.
        return unsafe { asm!("tilerelease", options(nostack)) };
    }
    #[repr(align(64))]
    struct Shapes([u8; 64]);
    let (first, second) = (rows.min(16) as u8, rows.saturating_sub(16) as u8);
    let mut shapes = Shapes([0; 64]);
    shapes.0[0] = 1;
    for (tile, rows) in [first, first, second, second, first, second, 16, 16].into_iter().enumerate() {
        shapes.0[16 + 2 * tile] = if rows == 0 { 0 } else { ROW as u8 };
        shapes.0[48 + tile] = rows;
    }
    // SAFETY: the shapes are those that the instruction knows, and no tile is in use.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &shapes, options(nostack)) }
}

/// Asks for a step's lines of what is multiplied next.
macro_rules! fetch {
    () => {
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

/// An instruction of a step, or of sums' begin and end, where a kernel of one or two tiles of rows and of columns has it: rows' tiles are loaded (`a0`, `a1`), columns'
/// (`b0`, `b1`), from an offset, sums are begun (`s00` to `s11`), added to (`p00` to `p11`) and stored (`o00` to `o11`).
macro_rules! piece {
    ($m:ident $n:ident $p:literal [a0 $at:literal]) => {
        concat!("tileloadd tmm4, [{a0} + {line}*1 + ", $at, "]\n")
    };
    (two $n:ident $p:literal [a1 $at:literal]) => {
        concat!("tileloadd tmm5, [{a1} + {line}*1 + ", $at, "]\n")
    };
    ($m:ident $n:ident $p:literal [b0 $at:literal]) => {
        concat!("tileloadd tmm6, [{b0} + {line}*1 + ", $at, "]\n")
    };
    ($m:ident two $p:literal [b1 $at:literal]) => {
        concat!("tileloadd tmm7, [{b1} + {line}*1 + ", $at, "]\n")
    };
    ($m:ident $n:ident $p:literal [p00]) => {
        concat!($p, " tmm0, tmm4, tmm6\n")
    };
    ($m:ident two $p:literal [p01]) => {
        concat!($p, " tmm1, tmm4, tmm7\n")
    };
    (two $n:ident $p:literal [p10]) => {
        concat!($p, " tmm2, tmm5, tmm6\n")
    };
    (two two $p:literal [p11]) => {
        concat!($p, " tmm3, tmm5, tmm7\n")
    };
    ($m:ident $n:ident $p:literal [s00 $left:literal]) => {
        concat!($p, " tmm0", $left, "\n")
    };
    ($m:ident two $p:literal [s01 $right:literal]) => {
        concat!($p, " tmm1", $right, "\n")
    };
    (two $n:ident $p:literal [s10 $left:literal]) => {
        concat!($p, " tmm2", $left, "\n")
    };
    (two two $p:literal [s11 $right:literal]) => {
        concat!($p, " tmm3", $right, "\n")
    };
    ($m:ident $n:ident $p:literal [o00]) => {
        concat!($p, " [{a0} + {row}*1], tmm0\n")
    };
    ($m:ident two $p:literal [o01]) => {
        concat!($p, " [{a0} + {row}*1 + 64], tmm1\n")
    };
    (two $n:ident $p:literal [o10]) => {
        concat!($p, " [{a1} + {row}*1], tmm2\n")
    };
    (two two $p:literal [o11]) => {
        concat!($p, " [{a1} + {row}*1 + 64], tmm3\n")
    };
    ($($absent:tt)*) => {
        ""
    };
}

macro_rules! pieces {
    ($m:ident $n:ident $p:literal $($piece:tt)*) => { concat!($(piece!($m $n $p $piece)),*) };
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
    ($name:ident: $m:ident $n:ident, $step:ident, $product:literal, $begin:literal, $left:literal, $right:literal) => {
        unsafe fn $name(call: &Call) {
            // SAFETY: the caller's pointers are valid for the shapes that were told; no tile is in use before or after.
            unsafe {
                asm!(
                    "mov {a0}, [{call} + {at_first}]",
                    "mov {a1}, [{call} + {at_first} + 8]",
                    "xor {line}, {line}",
                    pieces!($m $n $begin [s00 $left] [s01 $right] [s10 $left] [s11 $right]),
                    "mov {a0}, [{call} + {at_a}]",
                    "mov {a1}, [{call} + {at_a} + 8]",
                    "mov {b0}, [{call} + {at_b}]",
                    "mov {b1}, [{call} + {at_b} + 8]",
                    "mov {steps}, [{call} + {at_steps}]",
                    "mov {ahead}, [{call} + {at_ahead}]",
                    "mov {lines}, [{ahead} + {at_lines}]",
                    "mov {ahead}, [{ahead} + {at_from}]",
                    "mov {rest}, [{call} + {at_rest}]",
                    "mov {line}, 64",
                    "test {steps}, {steps}",
                    "jz 3f",
                    "2:",
                    fetch!(),
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
                    pieces!($m $n "tilestored" [o00] [o01] [o10] [o11]),
                    call = in(reg) call,
                    a0 = out(reg) _, a1 = out(reg) _, row = out(reg) _, b0 = out(reg) _, b1 = out(reg) _,
                    steps = out(reg) _, rest = out(reg) _, line = out(reg) _, ahead = out(reg) _, lines = out(reg) _, left = out(reg) _,
                    at_a = const offset_of!(Call, a), at_b = const offset_of!(Call, b),
                    at_steps = const offset_of!(Call, steps), at_ahead = const offset_of!(Call, ahead), at_from = const offset_of!(Ahead, from), at_lines = const offset_of!(Ahead, lines), at_rest = const offset_of!(Call, rest),
                    at_first = const offset_of!(Call, first), at_out = const offset_of!(Call, out), stride = const STRIDE * 4,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }
    };
}

/// The kernels of a product by tiles of rows and of columns, with one kind of step; sums begin with zeros, or with what lies at `$left` and `$right`.
macro_rules! kernels {
    ($module:ident: $step:ident, $product:literal, $begin:literal, $left:literal, $right:literal) => {
        mod $module {
            use super::{Ahead, Call, STRIDE};
            use std::arch::asm;
            use std::mem::offset_of;

            kernel!(one_by_one: one one, $step, $product, $begin, $left, $right);
            kernel!(one_by_two: one two, $step, $product, $begin, $left, $right);
            kernel!(two_by_one: two one, $step, $product, $begin, $left, $right);
            kernel!(two_by_two: two two, $step, $product, $begin, $left, $right);

            pub(super) unsafe fn run(call: &Call, rows: usize, panels: usize) {
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

kernels!(halves: whole, "tdpbf16ps", "tilezero", "", "");
kernels!(thirds: parts, "tdpbf16ps", "tilezero", "", "");
kernels!(bytes: whole, "tdpbusd", "tileloadd", ", [{a0} + {line}*1]", ", [{a1} + {line}*1]");

/// For [`super::copied::Form`]: bfloat16.
pub(super) unsafe fn pairs(
    a: *const u8,
    row: usize,
    _: usize,
    rows: usize,
    b: *const u8,
    panel: usize,
    panels: usize,
    tile: *mut u8,
    ahead: &Ahead,
) {
    let none = [std::ptr::null(); 2];
    unsafe { cut(halves::run, none, (a, row, rows), ([b, b.wrapping_add(panel)], panel, panels), tile, ahead) }
}

/// For [`super::copied::Form`]: bytes, panels with what sums begin with before them.
pub(super) unsafe fn quads(
    a: *const u8,
    row: usize,
    _: usize,
    rows: usize,
    b: *const u8,
    panel: usize,
    panels: usize,
    tile: *mut u8,
    ahead: &Ahead,
) {
    let first = [b, b.wrapping_add(panel)];
    unsafe { cut(bytes::run, first, (a, row, rows), (first.map(|p| p.wrapping_add(ROW)), panel - ROW, panels), tile, ahead) }
}

/// For [`super::copied::Form`]: `f32` in parts, of panels that end with a step.
pub(super) unsafe fn split(
    a: *const u8,
    row: usize,
    steps: usize,
    rows: usize,
    b: *const u8,
    panel: usize,
    panels: usize,
    tile: *mut u8,
    ahead: &Ahead,
) {
    let (none, whole) = ([std::ptr::null(); 2], (steps, [std::ptr::null(); 2]));
    unsafe { multiply(thirds::run, none, (a, row, rows), ([b, b.wrapping_add(panel)], whole, panels), tile, ahead) }
}

/// Kernels by rows and panels.
type Run = unsafe fn(&Call, usize, usize);

/// By panels of so many bytes, which may end within a tile: zeros follow there, as they do behind rows.
unsafe fn cut(
    run: Run,
    first: [*const u8; 2],
    rows: (*const u8, usize, usize),
    (b, panel, panels): ([*const u8; 2], usize, usize),
    tile: *mut u8,
    ahead: &Ahead,
) {
    let (steps, rest) = (panel / TILE, panel % TILE);
    let mut ends = [[0u8; TILE]; 2];
    if rest > 0 {
        for (end, b) in ends.iter_mut().zip(b).take(panels) {
            unsafe { std::ptr::copy_nonoverlapping(b.add(steps * TILE), end.as_mut_ptr(), rest) }
        }
    }
    let rest = if rest > 0 { [ends[0].as_ptr(), ends[1].as_ptr()] } else { [std::ptr::null(); 2] };
    unsafe { multiply(run, first, rows, (b, (steps, rest), panels), tile, ahead) }
}

/// By panels of so many steps and what follows them.
unsafe fn multiply(
    run: Run,
    first: [*const u8; 2],
    (a, row, rows): (*const u8, usize, usize),
    (b, (steps, rest), panels): ([*const u8; 2], (usize, [*const u8; 2]), usize),
    tile: *mut u8,
    ahead: &Ahead,
) {
    let out = [tile, tile.wrapping_add(16 * STRIDE * 4)];
    let call = Call { a: [a, a.wrapping_add(row)], b, steps, rest, first, out, ahead };
    unsafe { run(&call, rows, panels) }
}
