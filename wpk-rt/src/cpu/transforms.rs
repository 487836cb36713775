//! The transforms of minimal filtering ([`super::winograd`]): of weights at load, of images, and of products back to results.

use super::Args;
use super::isa::lanes;
use super::microkernel::STRIDE;
use super::simd::Lanes;
use crate::buffer::Memory;
use crate::pool::Pool;
use wpk_plan::problem::PANEL;

/// Images: strides of image, row and column, rows and columns, and channels, which lie together.
pub(super) struct Images {
    pub(super) strides: [i64; 3],
    pub(super) extents: [i64; 2],
    pub(super) channels: usize,
}

/// What a filter's taps are multiplied by, for tiles of so many elements; one of one is the only tap.
const FILTERS: [&[[f32; 3]]; 5] = [
    &[[1.0, 0.0, 0.0]],
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
    &[
        [1.0, 0.0, 0.0],
        [-2.0 / 9.0, -2.0 / 9.0, -2.0 / 9.0],
        [-2.0 / 9.0, 2.0 / 9.0, -2.0 / 9.0],
        [1.0 / 90.0, 1.0 / 45.0, 2.0 / 45.0],
        [1.0 / 90.0, -1.0 / 45.0, 2.0 / 45.0],
        [32.0 / 45.0, 16.0 / 45.0, 8.0 / 45.0],
        [32.0 / 45.0, -16.0 / 45.0, 8.0 / 45.0],
        [0.0, 0.0, 1.0],
    ],
];

/// Panels of weights as plain products have them, transformed: `[place][panel][channel][16]`. Tiles of one element belong to one tap, others to three.
pub(super) unsafe fn transformed(weights: *const f32, sides: [usize; 2], (channels, panels): (usize, usize), pool: &Pool) -> Memory {
    let filter = |side: usize| FILTERS.into_iter().find(|g| g.len() == side).unwrap_or_default();
    let [vertical, horizontal] = sides.map(filter);
    let [tall, wide] = sides.map(|side| if side == 1 { 1 } else { 3 });
    let stride = panels * channels * PANEL;
    let mut memory = Memory::new(vertical.len() * horizontal.len() * stride * size_of::<f32>());
    memory.claim(pool);
    let pointers = [weights.cast_mut().cast(), memory.ptr()];
    let shared = Args(&pointers);
    pool.run(panels, &|panel, _| {
        let [weights, all] = [0, 1].map(|i| shared.get()[i].cast::<f32>());
        for channel in 0..channels {
            let at = |tap: usize| match (tap / 3, tap % 3) {
                (r, s) if r < tall && s < wide => unsafe {
                    *weights.add(((panel * tall * wide + r * wide + s) * channels + channel) * PANEL).cast::<[f32; PANEL]>()
                },
                _ => [0.0; PANEL],
            };
            let taps: [[f32; PANEL]; 9] = std::array::from_fn(at);
            for (i, down) in vertical.iter().enumerate() {
                let row: [[f32; PANEL]; 3] = std::array::from_fn(|s| {
                    std::array::from_fn(|l| down[0] * taps[s][l] + down[1] * taps[3 + s][l] + down[2] * taps[6 + s][l])
                });
                for (j, across) in horizontal.iter().enumerate() {
                    let to = (horizontal.len() * i + j) * stride + (panel * channels + channel) * PANEL;
                    for l in 0..PANEL {
                        unsafe { *all.add(to + l) = across[0] * row[0][l] + across[1] * row[1][l] + across[2] * row[2][l] };
                    }
                }
            }
        }
    });
    memory
}

/// The transforms, compiled for this machine.
pub(super) struct Transforms {
    /// Of a tile's elements from a corner on: to the first place of its channels, and elements from one place to the next.
    pub(super) image: unsafe fn(&Images, *const f32, [i64; 2], *mut f32, usize),
    /// Of products to the results of a row of tiles: first place, elements between places, tiles, panels, results.
    pub(super) result: unsafe fn(*const f32, usize, usize, usize, *mut f32),
}

/// For tiles of `N` by `O` elements and `R` by `S` results.
pub(super) fn transforms<const N: usize, const O: usize, const R: usize, const S: usize>() -> Transforms {
    macro_rules! compiled {
        ($V:ty $(, $feature:literal)?) => {{
            $(#[target_feature(enable = $feature)])?
            unsafe fn image<const N: usize, const O: usize>(images: &Images, x: *const f32, corner: [i64; 2], to: *mut f32, place: usize) {
                unsafe { image_body::<$V, N, O>(images, x, corner, to, place) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn result<const N: usize, const O: usize, const R: usize, const S: usize>(
                m: *const f32, place: usize, tiles: usize, panels: usize, y: *mut f32,
            ) {
                unsafe { result_body::<$V, N, O, R, S>(m, place, tiles, panels, y) }
            }
            Transforms { image: image::<N, O>, result: result::<N, O, R, S> }
        }};
    }
    lanes!(compiled)
}

/// The transform of elements in one dimension, of four for two results, of six for four, of eight for six, and of five for two with a step of two:
/// the odd ones first.
#[inline(always)]
unsafe fn elements<V: Lanes, const N: usize>(d: [V; N]) -> [V; N] {
    unsafe {
        let (one, minus, four) = (V::splat(1.0), V::splat(-1.0), V::splat(-4.0));
        let mut t = d;
        if N == 1 {
            return d;
        }
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
        } else if N == 8 {
            let more = V::splat(5.25);
            let sum = |x: V, by: f32, y: V| x.mul_add(y, V::splat(by));
            let even =
                [sum(sum(d[2], 1.0, d[6]), -4.25, d[4]), sum(sum(d[6], 0.25, d[2]), -1.25, d[4]), sum(sum(d[6], 4.0, d[2]), -5.0, d[4])];
            let half = V::splat(0.0).mul_add(d[1], V::splat(0.5));
            let twice = V::splat(0.0).mul_add(d[1], V::splat(2.0));
            let odd =
                [sum(sum(d[1], 1.0, d[5]), -4.25, d[3]), sum(sum(half, -2.5, d[3]), 2.0, d[5]), sum(sum(twice, -2.5, d[3]), 0.5, d[5])];
            t[0] = sum(d[0], -1.0, d[6]).mul_add(sum(d[4], -1.0, d[2]), more);
            for i in 0..3 {
                t[1 + 2 * i] = sum(even[i], 1.0, odd[i]);
                t[2 + 2 * i] = sum(even[i], -1.0, odd[i]);
            }
            t[7] = sum(d[7], -1.0, d[1]).mul_add(sum(d[3], -1.0, d[5]), more);
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
        if N == 1 {
            return y;
        }
        let (s, d) = (m[1].mul_add(m[2], one), m[1].mul_add(m[2], minus));
        if N == 5 {
            y[0] = m[0].mul_add(m[1], one).mul_add(m[3], one);
            y[1] = m[1].mul_add(m[2], one).mul_add(m[4], one);
        } else if R == 6 {
            let pair = |i: usize, by: V| m[i].mul_add(m[i + 1], by);
            let (t, u) = ([pair(3, one), pair(5, one)], [pair(3, minus), pair(5, minus)]);
            for i in 0..3 {
                let (up, down) = ((1 << (2 * i)) as f32, 1.0 / (1 << (2 * i)) as f32);
                y[2 * i] = s.mul_add(t[0], V::splat(up)).mul_add(t[1], V::splat(down));
                y[2 * i + 1] = d.mul_add(u[0], V::splat(2.0 * up)).mul_add(u[1], V::splat(0.5 * down));
            }
            y[0] = y[0].mul_add(m[0], one);
            y[5] = y[5].mul_add(m[7], one);
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
unsafe fn image_body<V: Lanes, const N: usize, const O: usize>(
    images: &Images,
    x: *const f32,
    corner: [i64; 2],
    to: *mut f32,
    place: usize,
) {
    let inside = |i: usize, j: usize| {
        let at = [corner[0] + i as i64, corner[1] + j as i64];
        let inside = (0..images.extents[0]).contains(&at[0]) && (0..images.extents[1]).contains(&at[1]);
        inside.then(|| x.wrapping_offset((at[0] * images.strides[1] + at[1] * images.strides[2]) as isize))
    };
    let places: [[Option<*const f32>; O]; N] = std::array::from_fn(|i| std::array::from_fn(|j| inside(i, j)));
    for channel in (0..images.channels).step_by(PANEL) {
        unsafe {
            let zero = V::splat(0.0);
            let mut rows = [[zero; O]; N];
            for i in 0..N {
                let mut d = [zero; O];
                for j in 0..O {
                    if let Some(p) = places[i][j] {
                        d[j] = V::load(p.add(channel));
                    }
                }
                rows[i] = elements(d);
            }
            for j in 0..O {
                let mut column = [zero; N];
                for i in 0..N {
                    column[i] = rows[i][j];
                }
                let column = elements(column);
                for i in 0..N {
                    column[i].store(to.add((O * i + j) * place + channel));
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn result_body<V: Lanes, const N: usize, const O: usize, const R: usize, const S: usize>(
    m: *const f32,
    place: usize,
    tiles: usize,
    panels: usize,
    y: *mut f32,
) {
    for t in 0..tiles {
        for column in (0..panels * PANEL).step_by(PANEL) {
            unsafe {
                let zero = V::splat(0.0);
                let mut rows = [[zero; S]; N];
                for i in 0..N {
                    let mut products = [zero; O];
                    for j in 0..O {
                        products[j] = V::load(m.add((O * i + j) * place + t * STRIDE + column));
                    }
                    rows[i] = results(products);
                }
                for dx in 0..S {
                    let mut down = [zero; N];
                    for i in 0..N {
                        down[i] = rows[i][dx];
                    }
                    let down: [V; R] = results(down);
                    for (dy, value) in down.into_iter().enumerate() {
                        value.store(y.add((dy * S * tiles + S * t + dx) * STRIDE + column));
                    }
                }
            }
        }
    }
}
