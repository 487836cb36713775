//! The transforms of minimal filtering ([`super::winograd`]): of weights at load, of images, and of products back to results.

use super::isa::lanes;
use super::microkernel::STRIDE;
use super::simd::Lanes;
use crate::buffer::Memory;
use wpk_plan::problem::PANEL;

/// Images: strides of image, row and column, rows and columns, and channels, which lie together.
pub(super) struct Images {
    pub(super) strides: [i64; 3],
    pub(super) extents: [i64; 2],
    pub(super) channels: usize,
}

/// What a filter's taps are multiplied by, for tiles of four, five and six elements.
const FILTERS: [&[[f32; 3]]; 3] = [
    &[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]],
    &[[1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]],
    &[
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ],
];

/// Panels of weights as plain products have them, transformed: `[place][panel][channel][16]`.
pub(super) unsafe fn transformed(weights: *const f32, side: usize, channels: usize, panels: usize) -> Memory {
    let g = FILTERS[side - 4];
    let stride = panels * channels * PANEL;
    let memory = Memory::new(g.len() * g.len() * stride * size_of::<f32>());
    let all = memory.ptr().cast::<f32>();
    for panel in 0..panels {
        for channel in 0..channels {
            let at = |tap: usize| unsafe { *weights.add(((panel * 9 + tap) * channels + channel) * PANEL).cast::<[f32; PANEL]>() };
            let taps: [[f32; PANEL]; 9] = std::array::from_fn(at);
            for (i, down) in g.iter().enumerate() {
                let row: [[f32; PANEL]; 3] = std::array::from_fn(|s| {
                    std::array::from_fn(|l| down[0] * taps[s][l] + down[1] * taps[3 + s][l] + down[2] * taps[6 + s][l])
                });
                for (j, across) in g.iter().enumerate() {
                    let to = (g.len() * i + j) * stride + (panel * channels + channel) * PANEL;
                    for l in 0..PANEL {
                        unsafe { *all.add(to + l) = across[0] * row[0][l] + across[1] * row[1][l] + across[2] * row[2][l] };
                    }
                }
            }
        }
    }
    memory
}

/// The transforms, compiled for this machine.
pub(super) struct Transforms {
    /// Of a tile's elements from a corner on: to the first place of its channels, and elements from one place to the next.
    pub(super) image: unsafe fn(&Images, *const f32, [i64; 2], *mut f32, usize),
    /// Of products to the results of a row of tiles: first place, elements between places, tiles, panels, results.
    pub(super) result: unsafe fn(*const f32, usize, usize, usize, *mut f32),
}

/// For tiles of `N` by `N` elements and `R` by `R` results.
pub(super) fn transforms<const N: usize, const R: usize>() -> Transforms {
    macro_rules! compiled {
        ($V:ty $(, $feature:literal)?) => {{
            $(#[target_feature(enable = $feature)])?
            unsafe fn image<const N: usize>(images: &Images, x: *const f32, corner: [i64; 2], to: *mut f32, place: usize) {
                unsafe { image_body::<$V, N>(images, x, corner, to, place) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn result<const N: usize, const R: usize>(m: *const f32, place: usize, tiles: usize, panels: usize, y: *mut f32) {
                unsafe { result_body::<$V, N, R>(m, place, tiles, panels, y) }
            }
            Transforms { image: image::<N>, result: result::<N, R> }
        }};
    }
    lanes!(compiled)
}

/// The transform of elements in one dimension, of four for two results, of six for four, and of five for two with a step of two: the odd ones first.
#[inline(always)]
unsafe fn elements<V: Lanes, const N: usize>(d: [V; N]) -> [V; N] {
    unsafe {
        let (one, minus, four) = (V::splat(1.0), V::splat(-1.0), V::splat(-4.0));
        let mut t = d;
        if N == 4 {
            t[0] = d[0].mul_add(d[2], minus);
            t[1] = d[1].mul_add(d[2], one);
            t[2] = d[2].mul_add(d[1], minus);
            t[3] = d[1].mul_add(d[3], minus);
        } else if N == 5 {
            t[0] = d[0].mul_add(d[2], minus);
            t[1] = d[2];
            t[2] = d[4].mul_add(d[2], minus);
            t[3] = d[1];
            t[4] = d[3];
        } else {
            let (a, b) = (d[4].mul_add(d[2], four), d[3].mul_add(d[1], four));
            let (c, e) = (d[4].mul_add(d[2], minus), d[3].mul_add(d[1], minus));
            let (two, less, five) = (V::splat(2.0), V::splat(-2.0), V::splat(-5.0));
            t[0] = d[4].mul_add(d[2], five).mul_add(d[0], V::splat(4.0));
            t[1] = a.mul_add(b, one);
            t[2] = a.mul_add(b, minus);
            t[3] = c.mul_add(e, two);
            t[4] = c.mul_add(e, less);
            t[5] = d[5].mul_add(d[3], five).mul_add(d[1], V::splat(4.0));
        }
        t
    }
}

/// The transform of products in one dimension.
#[inline(always)]
unsafe fn results<V: Lanes, const N: usize, const R: usize>(m: [V; N]) -> [V; R] {
    unsafe {
        let (one, minus) = (V::splat(1.0), V::splat(-1.0));
        let mut y = [m[0]; R];
        let (s, d) = (m[1].mul_add(m[2], one), m[1].mul_add(m[2], minus));
        if N == 5 {
            y[0] = m[0].mul_add(m[1], one).mul_add(m[3], one);
            y[1] = m[1].mul_add(m[2], one).mul_add(m[4], one);
        } else if R == 2 {
            y[0] = m[0].mul_add(s, one);
            y[1] = d.mul_add(m[3], minus);
        } else {
            let (u, v) = (m[3].mul_add(m[4], one), m[3].mul_add(m[4], minus));
            y[0] = m[0].mul_add(s, one).mul_add(u, one);
            y[1] = d.mul_add(v, V::splat(2.0));
            y[2] = s.mul_add(u, V::splat(4.0));
            y[3] = d.mul_add(v, V::splat(8.0)).mul_add(m[5], one);
        }
        y
    }
}

#[inline(always)]
unsafe fn image_body<V: Lanes, const N: usize>(images: &Images, x: *const f32, corner: [i64; 2], to: *mut f32, place: usize) {
    let inside = |i: usize, j: usize| {
        let at = [corner[0] + i as i64, corner[1] + j as i64];
        let inside = (0..images.extents[0]).contains(&at[0]) && (0..images.extents[1]).contains(&at[1]);
        inside.then(|| x.wrapping_offset((at[0] * images.strides[1] + at[1] * images.strides[2]) as isize))
    };
    let places: [[Option<*const f32>; N]; N] = std::array::from_fn(|i| std::array::from_fn(|j| inside(i, j)));
    for channel in (0..images.channels).step_by(PANEL) {
        unsafe {
            let zero = V::splat(0.0);
            let mut rows = [[zero; N]; N];
            for i in 0..N {
                let mut d = [zero; N];
                for j in 0..N {
                    if let Some(p) = places[i][j] {
                        d[j] = V::load(p.add(channel));
                    }
                }
                rows[i] = elements(d);
            }
            for j in 0..N {
                let mut column = [zero; N];
                for i in 0..N {
                    column[i] = rows[i][j];
                }
                let column = elements(column);
                for i in 0..N {
                    column[i].store(to.add((N * i + j) * place + channel));
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn result_body<V: Lanes, const N: usize, const R: usize>(m: *const f32, place: usize, tiles: usize, panels: usize, y: *mut f32) {
    for t in 0..tiles {
        for column in (0..panels * PANEL).step_by(PANEL) {
            unsafe {
                let zero = V::splat(0.0);
                let mut rows = [[zero; R]; N];
                for i in 0..N {
                    let mut products = [zero; N];
                    for j in 0..N {
                        products[j] = V::load(m.add((N * i + j) * place + t * STRIDE + column));
                    }
                    rows[i] = results(products);
                }
                for dx in 0..R {
                    let mut down = [zero; N];
                    for i in 0..N {
                        down[i] = rows[i][dx];
                    }
                    let down: [V; R] = results(down);
                    for (dy, value) in down.into_iter().enumerate() {
                        value.store(y.add((dy * R * tiles + R * t + dx) * STRIDE + column));
                    }
                }
            }
        }
    }
}
