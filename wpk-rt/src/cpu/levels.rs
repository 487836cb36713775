//! Weights as levels of a few bits with scales: rows of a panel become numbers shortly before they are multiplied, so that memory gives the
//! levels alone.

use super::isa::lanes;
use super::simd::Lanes;
use wpk_plan::problem::{BLOCK, PANEL};

/// Makes some rows of a panel numbers: the panels, the panel's number among all and their depth; the first row and how many; where they go.
pub(super) type Numbers = unsafe fn(*const u8, (usize, usize), (usize, usize), *mut f32);

/// For levels of so many bits on this machine.
pub(super) fn numbers(bits: usize) -> Numbers {
    macro_rules! compiled {
        ($V:ty $(, $features:literal)?) => {{
            $(#[target_feature(enable = $features)])?
            unsafe fn eight(from: *const u8, panel: (usize, usize), rows: (usize, usize), to: *mut f32) {
                unsafe { body::<$V, 8>(from, panel, rows, to) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn four(from: *const u8, panel: (usize, usize), rows: (usize, usize), to: *mut f32) {
                unsafe { body::<$V, 4>(from, panel, rows, to) }
            }
            if bits == 8 { eight } else { four }
        }};
    }
    lanes!(compiled)
}

#[inline(always)]
unsafe fn body<V: Lanes, const BITS: usize>(from: *const u8, (panel, depth): (usize, usize), (first, count): (usize, usize), to: *mut f32) {
    let (scales, row) = (depth.div_ceil(BLOCK) * PANEL * 4, PANEL * BITS / 8);
    let panel = from.wrapping_add(panel * (scales + depth * row));
    let (mut k, end) = (first, first + count);
    while k < end {
        // SAFETY: the verifier holds that the section has all panels, and the caller that there is room for all rows.
        unsafe {
            let (zero, scale) = (V::splat(0.0), V::load(panel.add(k / BLOCK * PANEL * 4).cast()));
            let until = (k / BLOCK * BLOCK + BLOCK).min(end);
            for k in k..until {
                let levels = panel.add(scales + k * row);
                let levels = if BITS == 8 { V::load_bytes(levels.cast()) } else { nibbles(levels) };
                zero.mul_add(levels, scale).store(to.add((k - first) * PANEL));
            }
            k = until;
        }
    }
}

/// Sixteen numbers of four bits with signs: the low halves of eight bytes, then the high ones.
#[inline(always)]
unsafe fn nibbles<V: Lanes>(from: *const u8) -> V {
    const LOW: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = u64::from_le_bytes(unsafe { from.cast::<[u8; 8]>().read_unaligned() });
    // The sign fills the upper half of its byte.
    let signed = |x: u64| x | ((x & 0x0808_0808_0808_0808) * 0x1e);
    unsafe { V::bytes(signed(pairs & LOW), signed(pairs >> 4 & LOW)) }
}
