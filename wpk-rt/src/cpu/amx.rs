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
#[repr(C, align(64))]
struct Call {
    /// Shapes of tiles: sums 0 to 3, rows 4 and 5, columns 6 and 7. Those of the second sixteen rows are none where there are none.
    shapes: [u8; 64],
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
    /// What is multiplied next, and lines of it that a step asks for.
    ahead: *const u8,
    lines: usize,
}

fn shapes(rows: usize) -> [u8; 64] {
    let (first, second) = (rows.min(16) as u8, rows.saturating_sub(16) as u8);
    let mut shapes = [0; 64];
    shapes[0] = 1;
    for (tile, rows) in [first, first, second, second, first, second, 16, 16].into_iter().enumerate() {
        shapes[16 + 2 * tile] = if rows == 0 { 0 } else { ROW as u8 };
        shapes[48 + tile] = rows;
    }
    shapes
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

/// A step of factors of one part: tiles of rows and of columns, and their products.
macro_rules! whole {
    ($rows:literal, $columns:literal, $products:expr) => {
        concat!($rows, $columns, $products, "add {a0}, 1024\n add {a1}, 1024\n add {b0}, 1024\n add {b1}, 1024")
    };
}

/// A step of factors of three parts: the six products that count, the smallest first but for those that share a tile with the one before. Rows 0 by
/// columns 2 and 1, rows 1 by columns 1 and 0, rows 2 by columns 0, rows 0 by columns 0.
macro_rules! parts {
    ($rows:literal, $columns:literal, $products:expr) => {
        concat!(
            $rows,
            "add {b0}, 2048\n add {b1}, 2048\n",
            $columns,
            $products,
            "sub {b0}, 1024\n sub {b1}, 1024\n",
            $columns,
            $products,
            "add {a0}, 1024\n add {a1}, 1024\n",
            $rows,
            $products,
            "sub {b0}, 1024\n sub {b1}, 1024\n",
            $columns,
            $products,
            "add {a0}, 1024\n add {a1}, 1024\n",
            $rows,
            $products,
            "sub {a0}, 2048\n sub {a1}, 2048\n",
            $rows,
            $products,
            "add {a0}, 3072\n add {a1}, 3072\n add {b0}, 3072\n add {b1}, 3072"
        )
    };
}

/// A kernel of one or two tiles of rows and of columns: how sums begin, a step, and where sums go.
macro_rules! kernel {
    ($name:ident: [$($first:expr),*] [$step:expr] [$($out:expr),*]) => {
        unsafe fn $name(call: &Call) {
            // SAFETY: the caller's pointers are valid for the shapes; no tile is in use before or after.
            unsafe {
                asm!(
                    "ldtilecfg [{call}]",
                    "mov {a0}, [{call} + {at_first}]",
                    "mov {a1}, [{call} + {at_first} + 8]",
                    "xor {line}, {line}",
                    $($first,)*
                    "mov {a0}, [{call} + {at_a}]",
                    "mov {a1}, [{call} + {at_a} + 8]",
                    "mov {b0}, [{call} + {at_b}]",
                    "mov {b1}, [{call} + {at_b} + 8]",
                    "mov {steps}, [{call} + {at_steps}]",
                    "mov {ahead}, [{call} + {at_ahead}]",
                    "mov {lines}, [{call} + {at_lines}]",
                    "mov {rest}, [{call} + {at_rest}]",
                    "mov {line}, 64",
                    "test {steps}, {steps}",
                    "jz 3f",
                    "2:",
                    fetch!(),
                    $step,
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
                    $($out,)*
                    "tilerelease",
                    call = in(reg) call,
                    a0 = out(reg) _, a1 = out(reg) _, row = out(reg) _, b0 = out(reg) _, b1 = out(reg) _,
                    steps = out(reg) _, rest = out(reg) _, line = out(reg) _, ahead = out(reg) _, lines = out(reg) _, left = out(reg) _,
                    at_a = const offset_of!(Call, a), at_b = const offset_of!(Call, b),
                    at_steps = const offset_of!(Call, steps), at_ahead = const offset_of!(Call, ahead), at_lines = const offset_of!(Call, lines), at_rest = const offset_of!(Call, rest),
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
            use super::{Call, STRIDE};
            use std::arch::asm;
            use std::mem::offset_of;

            kernel!(one_by_one:
                [concat!($begin, " tmm0", $left)]
                [$step!("tileloadd tmm4, [{a0} + {line}*1]\n", "tileloadd tmm6, [{b0} + {line}*1]\n", concat!($product, " tmm0, tmm4, tmm6\n"))]
                ["tilestored [{a0} + {row}*1], tmm0"]);
            kernel!(one_by_two:
                [concat!($begin, " tmm0", $left), concat!($begin, " tmm1", $right)]
                [$step!("tileloadd tmm4, [{a0} + {line}*1]\n", "tileloadd tmm6, [{b0} + {line}*1]\n tileloadd tmm7, [{b1} + {line}*1]\n",
                        concat!($product, " tmm0, tmm4, tmm6\n", $product, " tmm1, tmm4, tmm7\n"))]
                ["tilestored [{a0} + {row}*1], tmm0", "tilestored [{a0} + {row}*1 + 64], tmm1"]);
            kernel!(two_by_one:
                [concat!($begin, " tmm0", $left), concat!($begin, " tmm2", $left)]
                [$step!("tileloadd tmm4, [{a0} + {line}*1]\n tileloadd tmm5, [{a1} + {line}*1]\n", "tileloadd tmm6, [{b0} + {line}*1]\n",
                        concat!($product, " tmm0, tmm4, tmm6\n", $product, " tmm2, tmm5, tmm6\n"))]
                ["tilestored [{a0} + {row}*1], tmm0", "tilestored [{a1} + {row}*1], tmm2"]);
            kernel!(two_by_two:
                [concat!($begin, " tmm0", $left), concat!($begin, " tmm1", $right), concat!($begin, " tmm2", $left), concat!($begin, " tmm3", $right)]
                [$step!("tileloadd tmm4, [{a0} + {line}*1]\n tileloadd tmm5, [{a1} + {line}*1]\n", "tileloadd tmm6, [{b0} + {line}*1]\n tileloadd tmm7, [{b1} + {line}*1]\n",
                        concat!($product, " tmm0, tmm4, tmm6\n", $product, " tmm1, tmm4, tmm7\n", $product, " tmm2, tmm5, tmm6\n", $product, " tmm3, tmm5, tmm7\n"))]
                ["tilestored [{a0} + {row}*1], tmm0", "tilestored [{a0} + {row}*1 + 64], tmm1",
                 "tilestored [{a1} + {row}*1], tmm2", "tilestored [{a1} + {row}*1 + 64], tmm3"]);

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
    ahead: Ahead,
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
    ahead: Ahead,
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
    ahead: Ahead,
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
    ahead: Ahead,
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
    ahead: Ahead,
) {
    let out = [tile, tile.wrapping_add(16 * STRIDE * 4)];
    let call =
        Call { shapes: shapes(rows), a: [a, a.wrapping_add(row)], b, steps, rest, first, out, ahead: ahead.from, lines: ahead.lines };
    unsafe { run(&call, rows, panels) }
}
