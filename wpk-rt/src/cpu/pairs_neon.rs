//! Products of pairs of bfloat16 on 64-bit Arm with FEAT_BF16: four rows by a panel at a time, a pair of depth an instruction.
//!
//! Source: Arm Architecture Reference Manual for A-profile, C7.2, BFDOT (vector).

use super::copied::Factors;
use super::microkernel::STRIDE;
use std::arch::asm;
use wpk_plan::problem::PANEL;

/// Rows at a time.
const ROWS: usize = 4;

/// Whether this machine has the instruction.
pub(super) fn has() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16")
}

/// For [`super::copied::Form`].
pub(super) unsafe fn multiply(f: &Factors) {
    let Factors { a, row, groups, rows, b, panel, panels, tile, .. } = *f;
    for first in (0..rows).step_by(ROWS) {
        for p in 0..panels {
            let mut sums = [[0.0f32; PANEL]; ROWS];
            // Rows beyond the last one are it again.
            let of = [0, 1, 2, 3].map(|r| a.wrapping_add((first + r).min(rows - 1) * row));
            unsafe { block(of, b.wrapping_add(p * panel), groups, &mut sums) }
            for (r, sums) in sums.iter().enumerate().take(rows - first) {
                unsafe { tile.cast::<f32>().add((first + r) * STRIDE + p * PANEL).cast::<[f32; PANEL]>().write_unaligned(*sums) }
            }
        }
    }
}

/// Sums over so many pairs, at least one.
#[target_feature(enable = "neon,bf16")]
unsafe fn block([a0, a1, a2, a3]: [*const u8; ROWS], b: *const u8, groups: usize, sums: &mut [[f32; PANEL]; ROWS]) {
    unsafe {
        asm!(
            "movi v0.4s, #0", "movi v1.4s, #0", "movi v2.4s, #0", "movi v3.4s, #0",
            "movi v4.4s, #0", "movi v5.4s, #0", "movi v6.4s, #0", "movi v7.4s, #0",
            "movi v24.4s, #0", "movi v25.4s, #0", "movi v26.4s, #0", "movi v27.4s, #0",
            "movi v28.4s, #0", "movi v29.4s, #0", "movi v30.4s, #0", "movi v31.4s, #0",
            "2:",
            "ld1 {{v16.4s, v17.4s, v18.4s, v19.4s}}, [{b}], #64",
            "ld1r {{v20.4s}}, [{a0}], #4",
            "ld1r {{v21.4s}}, [{a1}], #4",
            "ld1r {{v22.4s}}, [{a2}], #4",
            "ld1r {{v23.4s}}, [{a3}], #4",
            "bfdot v0.4s, v16.8h, v20.8h", "bfdot v1.4s, v17.8h, v20.8h", "bfdot v2.4s, v18.8h, v20.8h", "bfdot v3.4s, v19.8h, v20.8h",
            "bfdot v4.4s, v16.8h, v21.8h", "bfdot v5.4s, v17.8h, v21.8h", "bfdot v6.4s, v18.8h, v21.8h", "bfdot v7.4s, v19.8h, v21.8h",
            "bfdot v24.4s, v16.8h, v22.8h", "bfdot v25.4s, v17.8h, v22.8h", "bfdot v26.4s, v18.8h, v22.8h", "bfdot v27.4s, v19.8h, v22.8h",
            "bfdot v28.4s, v16.8h, v23.8h", "bfdot v29.4s, v17.8h, v23.8h", "bfdot v30.4s, v18.8h, v23.8h", "bfdot v31.4s, v19.8h, v23.8h",
            "subs {groups}, {groups}, #1",
            "b.ne 2b",
            "st1 {{v0.4s, v1.4s, v2.4s, v3.4s}}, [{sums}], #64",
            "st1 {{v4.4s, v5.4s, v6.4s, v7.4s}}, [{sums}], #64",
            "st1 {{v24.4s, v25.4s, v26.4s, v27.4s}}, [{sums}], #64",
            "st1 {{v28.4s, v29.4s, v30.4s, v31.4s}}, [{sums}]",
            a0 = inout(reg) a0 => _, a1 = inout(reg) a1 => _, a2 = inout(reg) a2 => _, a3 = inout(reg) a3 => _,
            b = inout(reg) b => _, groups = inout(reg) groups => _, sums = inout(reg) sums.as_mut_ptr() => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nostack)
        );
    }
}
