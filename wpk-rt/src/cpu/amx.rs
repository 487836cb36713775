//! Products by tiles (Intel AMX): sixteen rows by sixteen columns at a time, of 64 bytes of depth each. Two tiles of rows and two of columns are in use at
//! once, and their four tiles of sums.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18; `arch_prctl` of Linux for the permission to use tiles.

use super::copied::Ahead;
use super::isa;
use super::microkernel::STRIDE;
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::mem::offset_of;
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
    ahead: *const u8,
    /// Lines of it a step.
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

/// A kernel of one or two tiles of rows and of columns: how sums begin, the products of a step, and where sums go.
macro_rules! kernel {
    ($name:ident: [$($first:expr),*] [$($step:expr),*] [$($out:expr),*]) => {
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
                    $($step,)*
                    "add {a0}, 1024",
                    "add {a1}, 1024",
                    "add {b0}, 1024",
                    "add {b1}, 1024",
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

/// The kernels of a product by tiles of rows and of columns; sums begin with zeros, or with what lies at `$left` and `$right`.
macro_rules! kernels {
    ($module:ident: $product:literal, $begin:literal, $left:literal, $right:literal) => {
        mod $module {
            use super::{Call, STRIDE};
            use std::arch::asm;
            use std::mem::offset_of;

            kernel!(one_by_one:
                [concat!($begin, " tmm0", $left)]
                ["tileloadd tmm4, [{a0} + {line}*1]", "tileloadd tmm6, [{b0} + {line}*1]", concat!($product, " tmm0, tmm4, tmm6")]
                ["tilestored [{a0} + {row}*1], tmm0"]);
            kernel!(one_by_two:
                [concat!($begin, " tmm0", $left), concat!($begin, " tmm1", $right)]
                ["tileloadd tmm4, [{a0} + {line}*1]", "tileloadd tmm6, [{b0} + {line}*1]", concat!($product, " tmm0, tmm4, tmm6"),
                 "tileloadd tmm7, [{b1} + {line}*1]", concat!($product, " tmm1, tmm4, tmm7")]
                ["tilestored [{a0} + {row}*1], tmm0", "tilestored [{a0} + {row}*1 + 64], tmm1"]);
            kernel!(two_by_one:
                [concat!($begin, " tmm0", $left), concat!($begin, " tmm2", $left)]
                ["tileloadd tmm4, [{a0} + {line}*1]", "tileloadd tmm6, [{b0} + {line}*1]", concat!($product, " tmm0, tmm4, tmm6"),
                 "tileloadd tmm5, [{a1} + {line}*1]", concat!($product, " tmm2, tmm5, tmm6")]
                ["tilestored [{a0} + {row}*1], tmm0", "tilestored [{a1} + {row}*1], tmm2"]);
            kernel!(two_by_two:
                [concat!($begin, " tmm0", $left), concat!($begin, " tmm1", $right), concat!($begin, " tmm2", $left), concat!($begin, " tmm3", $right)]
                ["tileloadd tmm4, [{a0} + {line}*1]", "tileloadd tmm6, [{b0} + {line}*1]", concat!($product, " tmm0, tmm4, tmm6"),
                 "tileloadd tmm7, [{b1} + {line}*1]", concat!($product, " tmm1, tmm4, tmm7"),
                 "tileloadd tmm5, [{a1} + {line}*1]", concat!($product, " tmm2, tmm5, tmm6"), concat!($product, " tmm3, tmm5, tmm7")]
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

kernels!(halves: "tdpbf16ps", "tilezero", "", "");
kernels!(bytes: "tdpbusd", "tileloadd", ", [{a0} + {line}*1]", ", [{a1} + {line}*1]");

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
    unsafe { multiply(halves::run, none, (a, row, rows), ([b, b.wrapping_add(panel)], panel, panels), tile, ahead) }
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
    unsafe { multiply(bytes::run, first, (a, row, rows), (first.map(|p| p.wrapping_add(ROW)), panel - ROW, panels), tile, ahead) }
}

unsafe fn multiply(
    run: unsafe fn(&Call, usize, usize),
    first: [*const u8; 2],
    (a, row, rows): (*const u8, usize, usize),
    (b, panel, panels): ([*const u8; 2], usize, usize),
    tile: *mut u8,
    ahead: Ahead,
) {
    // A panel may end within a tile: zeros follow there, as they do behind rows.
    let (steps, rest) = (panel / TILE, panel % TILE);
    let mut ends = [[0u8; TILE]; 2];
    if rest > 0 {
        for (end, b) in ends.iter_mut().zip(b).take(panels) {
            unsafe { std::ptr::copy_nonoverlapping(b.add(steps * TILE), end.as_mut_ptr(), rest) }
        }
    }
    let rest = if rest > 0 { [ends[0].as_ptr(), ends[1].as_ptr()] } else { [std::ptr::null(); 2] };
    let second = 16 * STRIDE * 4;
    let call = Call {
        shapes: shapes(rows),
        a: [a, a.wrapping_add(row)],
        b,
        steps,
        rest,
        first,
        out: [tile, tile.wrapping_add(second)],
        ahead: ahead.from,
        lines: ahead.lines,
    };
    unsafe { run(&call, rows, panels) }
}

/// A kernel of the six products of parts that count, the smallest first: what loads rows and columns of a part, the products, and where sums go.
macro_rules! split {
    ($name:ident: [$($zero:expr),*] [$($row:expr),*] [$($column:expr),*] [$($product:expr),*] [$($out:expr),*]) => {
        unsafe fn $name(call: &Call) {
            // SAFETY: as for the kernels of one part.
            unsafe {
                asm!(
                    "ldtilecfg [{call}]",
                    $($zero,)*
                    "mov {a0}, [{call} + {at_a}]",
                    "mov {a1}, [{call} + {at_a} + 8]",
                    "mov {b0}, [{call} + {at_b}]",
                    "mov {b1}, [{call} + {at_b} + 8]",
                    "mov {steps}, [{call} + {at_steps}]",
                    "mov {ahead}, [{call} + {at_ahead}]",
                    "mov {lines}, [{call} + {at_lines}]",
                    "mov {line}, 64",
                    "2:",
                    fetch!(),
                    // Rows 0 by columns 2 and 1, rows 1 by columns 1 and 0, rows 2 by columns 0, rows 0 by columns 0.
                    $($row,)*
                    "add {b0}, 2048",
                    "add {b1}, 2048",
                    $($column,)*
                    $($product,)*
                    "sub {b0}, 1024",
                    "sub {b1}, 1024",
                    $($column,)*
                    $($product,)*
                    "add {a0}, 1024",
                    "add {a1}, 1024",
                    $($row,)*
                    $($product,)*
                    "sub {b0}, 1024",
                    "sub {b1}, 1024",
                    $($column,)*
                    $($product,)*
                    "add {a0}, 1024",
                    "add {a1}, 1024",
                    $($row,)*
                    $($product,)*
                    "sub {a0}, 2048",
                    "sub {a1}, 2048",
                    $($row,)*
                    $($product,)*
                    "add {a0}, 3072",
                    "add {a1}, 3072",
                    "add {b0}, 3072",
                    "add {b1}, 3072",
                    "dec {steps}",
                    "jnz 2b",
                    "mov {a0}, [{call} + {at_out}]",
                    "mov {a1}, [{call} + {at_out} + 8]",
                    "mov {row}, {stride}",
                    $($out,)*
                    "tilerelease",
                    call = in(reg) call,
                    a0 = out(reg) _, a1 = out(reg) _, row = out(reg) _, b0 = out(reg) _, b1 = out(reg) _,
                    steps = out(reg) _, line = out(reg) _, ahead = out(reg) _, lines = out(reg) _, left = out(reg) _,
                    at_a = const offset_of!(Call, a), at_b = const offset_of!(Call, b),
                    at_steps = const offset_of!(Call, steps), at_ahead = const offset_of!(Call, ahead), at_lines = const offset_of!(Call, lines),
                    at_out = const offset_of!(Call, out), stride = const STRIDE * 4,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }
    };
}

split!(split_one_by_one: ["tilezero tmm0"] ["tileloadd tmm4, [{a0} + {line}*1]"] ["tileloadd tmm6, [{b0} + {line}*1]"]
    ["tdpbf16ps tmm0, tmm4, tmm6"] ["tilestored [{a0} + {row}*1], tmm0"]);
split!(split_one_by_two: ["tilezero tmm0", "tilezero tmm1"] ["tileloadd tmm4, [{a0} + {line}*1]"]
    ["tileloadd tmm6, [{b0} + {line}*1]", "tileloadd tmm7, [{b1} + {line}*1]"]
    ["tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7"]
    ["tilestored [{a0} + {row}*1], tmm0", "tilestored [{a0} + {row}*1 + 64], tmm1"]);
split!(split_two_by_one: ["tilezero tmm0", "tilezero tmm2"] ["tileloadd tmm4, [{a0} + {line}*1]", "tileloadd tmm5, [{a1} + {line}*1]"]
    ["tileloadd tmm6, [{b0} + {line}*1]"] ["tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm2, tmm5, tmm6"]
    ["tilestored [{a0} + {row}*1], tmm0", "tilestored [{a1} + {row}*1], tmm2"]);
split!(split_two_by_two: ["tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"]
    ["tileloadd tmm4, [{a0} + {line}*1]", "tileloadd tmm5, [{a1} + {line}*1]"]
    ["tileloadd tmm6, [{b0} + {line}*1]", "tileloadd tmm7, [{b1} + {line}*1]"]
    ["tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7", "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7"]
    ["tilestored [{a0} + {row}*1], tmm0", "tilestored [{a0} + {row}*1 + 64], tmm1",
     "tilestored [{a1} + {row}*1], tmm2", "tilestored [{a1} + {row}*1 + 64], tmm3"]);

/// For [`super::copied::Form`]: `f32` in parts.
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
    let call = Call {
        shapes: shapes(rows),
        a: [a, a.wrapping_add(row)],
        b: [b, b.wrapping_add(panel)],
        steps,
        rest: [std::ptr::null(); 2],
        first: [std::ptr::null(); 2],
        out: [tile, tile.wrapping_add(16 * STRIDE * 4)],
        ahead: ahead.from,
        lines: ahead.lines,
    };
    unsafe {
        match (rows > 16, panels) {
            (false, 1) => split_one_by_one(&call),
            (false, _) => split_one_by_two(&call),
            (true, 1) => split_two_by_one(&call),
            (true, _) => split_two_by_two(&call),
        }
    }
}
