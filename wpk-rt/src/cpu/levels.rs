//! Weights as levels of a few bits with scales: rows of a panel become numbers shortly before they are multiplied, so that memory gives the
//! levels alone.

use super::isa::lanes;
use super::simd::Lanes;
use std::sync::OnceLock;
use wpk_plan::WeightLayout;
use wpk_plan::problem::{BLOCK, PANEL};

/// Makes some rows of a panel numbers: the panels, the panel's number among all and their depth; the first row and how many; where they go.
pub(super) type Numbers = unsafe fn(*const u8, (usize, usize), (usize, usize), *mut f32);

/// For the levels of a layout on this machine.
pub(super) fn numbers(layout: WeightLayout) -> Numbers {
    match layout {
        WeightLayout::E4m3x16 => looked_up::<{ WeightLayout::E4m3x16 as u8 }>,
        WeightLayout::E5m2x16 => looked_up::<{ WeightLayout::E5m2x16 as u8 }>,
        WeightLayout::E2m1x16 => looked_up::<{ WeightLayout::E2m1x16 as u8 }>,
        _ => integers(layout.levels().unwrap_or(8)),
    }
}

fn integers(bits: usize) -> Numbers {
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

/// Levels that are numbers of a floating type, by a table of all of them.
unsafe fn looked_up<const LAYOUT: u8>(from: *const u8, (panel, depth): (usize, usize), (first, count): (usize, usize), to: *mut f32) {
    const TABLES: usize = WeightLayout::ALL.len();
    static KNOWN: [OnceLock<[f32; 256]>; TABLES] = [const { OnceLock::new() }; TABLES];
    let layout = WeightLayout::ALL[usize::from(LAYOUT)];
    let table = KNOWN[usize::from(LAYOUT)].get_or_init(|| std::array::from_fn(|bits| layout.number(bits as u8)));
    let bits = layout.levels().unwrap_or(8);
    let (scales, row) = (depth.div_ceil(BLOCK) * PANEL * 4, PANEL * bits / 8);
    let panel = from.wrapping_add(panel * (scales + depth * row));
    for k in first..first + count {
        // SAFETY: the verifier holds that the section has all panels, and the caller that there is room for all rows.
        let (levels, scales, to) = unsafe {
            (
                std::slice::from_raw_parts(panel.add(scales + k * row), row),
                panel.add(k / BLOCK * PANEL * 4).cast::<[f32; PANEL]>().read_unaligned(),
                &mut *to.add((k - first) * PANEL).cast::<[f32; PANEL]>(),
            )
        };
        for (j, to) in to.iter_mut().enumerate() {
            let level = match (bits, j < PANEL / 2) {
                (8, _) => levels[j],
                (_, true) => levels[j] & 15,
                _ => levels[j - PANEL / 2] >> 4,
            };
            *to = table[usize::from(level)] * scales[j];
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
