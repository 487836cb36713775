//! Convolutions of 3 by 3 without gaps by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray, 2016): two by two results of four by four
//! elements by 16 products instead of 36. Images are transformed tile by tile, products by transformed weights are sums over channels for
//! each of the 16 places, and results are transformed back before the epilogue. Its error is about that of the plain sum: halves and sums of
//! four elements are all that is added. An infinite element makes all four results of its tile no number, those beside its window too.

use super::epilogue::Epilogue;
use super::isa::{Isa, isa};
use super::microkernel::{Kernels, ROWS, RowPointers, STRIDE};
use super::simd::{Lanes, Plain};
use super::{Args, Bound, Cx, Transformed, part};
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use wpk_plan::problem::{Contraction, PANEL, Roles};
use wpk_plan::{DType, WeightLayout};

/// Places of a transformed tile.
const PLACES: usize = 16;
/// Bytes of transformed images that a task keeps in the second cache.
const CACHED: usize = 512 << 10;
/// Channels below which transforming costs more than it saves.
const LEAST: usize = 32;

struct Winograd {
    kernels: Kernels,
    /// Images, result rows and columns.
    images: usize,
    out: [usize; 2],
    /// Of the first factor: its first element, strides of image, row and column, extents, and how far results begin before it.
    base: i64,
    strides: [i64; 3],
    extents: [i64; 2],
    before: [i64; 2],
    channels: usize,
    columns: usize,
    epilogue: Epilogue,
    weights: OnceLock<Arc<Vec<f32>>>,
    transforms: Transforms,
}

/// For a convolution that it computes, and is worth it for.
pub(super) fn bind(c: &Contraction, layout: WeightLayout) -> Option<Box<dyn Bound>> {
    let roles: Roles = c.roles();
    let channel = roles.channel?;
    let channels = c.space[channel];
    let columns = roles.count(&roles.n);
    let fits = c.dtype == DType::F32 && layout == WeightLayout::Panels16 && roles.batch.is_empty();
    let wide = channels.is_multiple_of(PANEL) && channels >= LEAST && columns >= LEAST;
    let ([.., p, q], [r, s]) = (&roles.m[..], &roles.taps[..]) else { return None };
    if !fits || !wide || c.space[*r] != 3 || c.space[*s] != 3 {
        return None;
    }
    // A spatial dimension moves with a result's row and a tap alone, by one.
    let side = |window: usize, tap: usize| {
        let mut found = c.a.dims.iter().filter(|d| d.index.terms.iter().any(|t| usize::from(t.0) == window));
        let (d, more) = (found.next()?, found.next());
        let mut terms = d.index.terms.clone();
        terms.sort_unstable();
        let expected = [(window as u8, 1), (tap as u8, 1)];
        (more.is_none() && d.index.divisor == 1 && terms == expected).then_some((d.stride, d.extent as i64, -d.index.offset))
    };
    let (rows, across) = (side(*p, *r)?, side(*q, *s)?);
    let others = &roles.m[..roles.m.len() - 2];
    let image = match others.iter().filter(|&&l| c.space[l] > 1).collect::<Vec<_>>()[..] {
        [] => 0,
        [&l] => c.a.stride(l, &c.space)?,
        _ => return None,
    };
    let epilogue = Epilogue::new(c, &[], &roles.m, &roles.n)?;
    Some(Box::new(Winograd {
        kernels: Kernels::get(),
        images: roles.count(others),
        out: [c.space[*p], c.space[*q]],
        base: c.a.offset as i64,
        strides: [image, rows.0, across.0],
        extents: [rows.1, across.1],
        before: [rows.2, across.2],
        channels,
        columns,
        epilogue,
        weights: OnceLock::new(),
        transforms: transforms(),
    }))
}

/// Panels of weights as plain products have them, transformed: `[place][panel][channel][16]`.
unsafe fn transformed(weights: *const f32, channels: usize, panels: usize) -> Vec<f32> {
    const G: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
    let size = panels * channels * PANEL;
    let mut all = vec![0.0; PLACES * size];
    for panel in 0..panels {
        for channel in 0..channels {
            let at = |tap: usize| unsafe { *weights.add(((panel * 9 + tap) * channels + channel) * PANEL).cast::<[f32; PANEL]>() };
            let taps: [[f32; PANEL]; 9] = std::array::from_fn(at);
            for i in 0..4 {
                let row: [[f32; PANEL]; 3] = std::array::from_fn(|s| {
                    std::array::from_fn(|l| G[i][0] * taps[s][l] + G[i][1] * taps[3 + s][l] + G[i][2] * taps[6 + s][l])
                });
                for j in 0..4 {
                    let to = (4 * i + j) * size + (panel * channels + channel) * PANEL;
                    for l in 0..PANEL {
                        all[to + l] = G[j][0] * row[0][l] + G[j][1] * row[1][l] + G[j][2] * row[2][l];
                    }
                }
            }
        }
    }
    all
}

impl Winograd {
    /// Tiles of a result's row, and rows of tiles of all images.
    fn tiles(&self) -> (usize, usize) {
        (self.out[1].div_ceil(2), self.images * self.out[0].div_ceil(2))
    }

    /// Rows of tiles that a task takes at most.
    fn block(&self) -> usize {
        let tiles = CACHED / (PLACES * 4 * self.channels);
        (tiles / self.tiles().0).clamp(1, self.tiles().1)
    }

    /// Floats of a task's transformed images, of its products, and of two rows of results.
    fn own(&self) -> [usize; 3] {
        let (across, _) = self.tiles();
        let tiles = self.block() * across;
        [PLACES * tiles * self.channels, PLACES * (tiles + ROWS) * STRIDE, 4 * across * STRIDE]
    }

    fn weights(&self, args: &[*mut u8]) -> &Arc<Vec<f32>> {
        let panels = self.columns.div_ceil(PANEL);
        self.weights.get_or_init(|| Arc::new(unsafe { transformed(args[1].cast::<f32>().cast_const(), self.channels, panels) }))
    }
}

impl Bound for Winograd {
    fn scratch(&self) -> (usize, usize) {
        (0, self.own().iter().sum::<usize>() * 4 + self.epilogue.scratch())
    }

    unsafe fn prepare(&self, args: &[*mut u8], known: &mut Transformed) {
        if args[1].is_null() {
            return;
        }
        let weights = known.entry(args[1] as usize).or_insert_with(|| self.weights(args).clone());
        let _ = self.weights.set(weights.clone());
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let (_, rows) = self.tiles();
        let (weights, threads) = (self.weights(args), cx.pool.threads());
        // Where there are few tiles, tasks share them and split the columns, so that weights are read once.
        let blocks = rows.div_ceil(self.block());
        let blocks = if blocks >= threads { blocks.next_multiple_of(threads).min(rows) } else { blocks };
        let groups = self.columns.div_ceil(PANEL).div_ceil(self.kernels.panels);
        let splits = if threads == 1 { 1 } else { (2 * threads).div_ceil(blocks).min(groups) };
        let arguments = Args(args);
        cx.pool.run(blocks * splits, &|task, thread| unsafe {
            let (rows, groups) = (part(rows, blocks, task / splits), part(groups, splits, task % splits));
            self.task(arguments.get(), weights, (rows, groups), cx.own(thread).cast());
        });
    }
}

impl Winograd {
    /// Some rows of tiles, for some groups of panels.
    unsafe fn task(&self, args: &[*mut u8], weights: &[f32], (rows, mine): (Range<usize>, Range<usize>), own: *mut f32) {
        let (across, _) = self.tiles();
        let [images, products, _] = self.own();
        let (v, m) = (own, own.wrapping_add(images));
        let y = m.wrapping_add(products);
        let scratch = y.wrapping_add(self.own()[2]).cast::<u8>();
        let (tiles, down) = (rows.len() * across, self.out[0].div_ceil(2));
        let x = args[0].cast::<f32>().wrapping_offset(self.base as isize).cast_const();
        for (i, row) in rows.clone().enumerate() {
            let (image, first) = (row / down, 2 * (row % down) as i64 - self.before[0]);
            let x = x.wrapping_offset((image as i64 * self.strides[0]) as isize);
            for t in 0..across {
                let corner = [first, 2 * t as i64 - self.before[1]];
                let to = v.wrapping_add((i * across + t) * self.channels);
                unsafe { (self.transforms.image)(self, x, corner, to, tiles * self.channels) };
            }
        }
        let panels = self.columns.div_ceil(PANEL);
        let groups = panels.div_ceil(self.kernels.panels);
        let size = panels * self.channels * PANEL;
        for group in mine {
            let group = part(panels, groups, group);
            let (width, column) = (group.len(), group.start * PANEL);
            let columns = (self.columns - column).min(width * PANEL);
            let count = tiles.div_ceil(self.kernels.rows(width));
            for place in 0..PLACES {
                let b = weights[place * size + group.start * self.channels * PANEL..].as_ptr();
                for t in (0..count).map(|t| part(tiles, count, t)) {
                    let from = v.wrapping_add((place * tiles + t.start) * self.channels);
                    let pointers: RowPointers = std::array::from_fn(|r| from.wrapping_add(r.min(t.len() - 1) * self.channels).cast_const());
                    let to = m.wrapping_add((place * tiles + t.start) * STRIDE);
                    let kernel = self.kernels.kernel(t.len(), width);
                    unsafe { kernel(&raw const pointers, 1, self.channels, 1, b, self.channels * PANEL, to, false) };
                }
            }
            for (i, row) in rows.clone().enumerate() {
                unsafe { (self.transforms.result)(m.wrapping_add(i * across * STRIDE), tiles * STRIDE, across, width, y) };
                let (image, first) = (row / down, 2 * (row % down));
                for dy in 0..(self.out[0] - first).min(2) {
                    let pixel = (image * self.out[0] + first + dy) * self.out[1];
                    let y = y.wrapping_add(dy * 2 * across * STRIDE);
                    unsafe { self.epilogue.store(y, 0, pixel, self.out[1], column, columns, args, scratch) };
                }
            }
        }
    }
}

/// The transforms, compiled for this machine.
struct Transforms {
    /// Of a tile's four by four elements from a corner on: to the first place of its channels, and elements from one place to the next.
    image: unsafe fn(&Winograd, *const f32, [i64; 2], *mut f32, usize),
    /// Of products to two rows of results: first place, elements between places, tiles, panels, results.
    result: unsafe fn(*const f32, usize, usize, usize, *mut f32),
}

fn transforms() -> Transforms {
    macro_rules! compiled {
        ($V:ty $(, $feature:literal)?) => {{
            $(#[target_feature(enable = $feature)])?
            unsafe fn image(w: &Winograd, x: *const f32, corner: [i64; 2], to: *mut f32, place: usize) {
                unsafe { image_body::<$V>(w, x, corner, to, place) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn result(m: *const f32, place: usize, tiles: usize, panels: usize, y: *mut f32) {
                unsafe { result_body::<$V>(m, place, tiles, panels, y) }
            }
            Transforms { image, result }
        }};
    }
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => compiled!(super::simd::x86::Avx512, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => compiled!(super::simd::x86::Avx2, "avx2,fma"),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => compiled!(super::simd::arm::Neon, "neon"),
        Isa::Portable => compiled!(Plain),
    }
}

/// `[a - c, b + c, c - b, b - d]`
#[inline(always)]
unsafe fn four<V: Lanes>([a, b, c, d]: [V; 4]) -> [V; 4] {
    unsafe {
        let (one, minus) = (V::splat(1.0), V::splat(-1.0));
        [a.mul_add(c, minus), b.mul_add(c, one), c.mul_add(b, minus), b.mul_add(d, minus)]
    }
}

/// `[a + b + c, b - c - d]`
#[inline(always)]
unsafe fn two<V: Lanes>([a, b, c, d]: [V; 4]) -> [V; 2] {
    unsafe {
        let (one, minus) = (V::splat(1.0), V::splat(-1.0));
        [a.mul_add(b, one).mul_add(c, one), b.mul_add(c, minus).mul_add(d, minus)]
    }
}

#[inline(always)]
unsafe fn image_body<V: Lanes>(w: &Winograd, x: *const f32, corner: [i64; 2], to: *mut f32, place: usize) {
    let inside = |i: usize, j: usize| {
        let at = [corner[0] + i as i64, corner[1] + j as i64];
        let inside = (0..w.extents[0]).contains(&at[0]) && (0..w.extents[1]).contains(&at[1]);
        inside.then(|| x.wrapping_offset((at[0] * w.strides[1] + at[1] * w.strides[2]) as isize))
    };
    let elements: [[Option<*const f32>; 4]; 4] = std::array::from_fn(|i| std::array::from_fn(|j| inside(i, j)));
    for channel in (0..w.channels).step_by(PANEL) {
        unsafe {
            let zero = V::splat(0.0);
            let mut rows = [[zero; 4]; 4];
            for i in 0..4 {
                let mut d = [zero; 4];
                for j in 0..4 {
                    if let Some(p) = elements[i][j] {
                        d[j] = V::load(p.add(channel));
                    }
                }
                rows[i] = four(d);
            }
            for j in 0..4 {
                let column = four([rows[0][j], rows[1][j], rows[2][j], rows[3][j]]);
                for i in 0..4 {
                    column[i].store(to.add((4 * i + j) * place + channel));
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn result_body<V: Lanes>(m: *const f32, place: usize, tiles: usize, panels: usize, y: *mut f32) {
    for t in 0..tiles {
        for column in (0..panels * PANEL).step_by(PANEL) {
            unsafe {
                let at = |i: usize, j: usize| V::load(m.add((4 * i + j) * place + t * STRIDE + column));
                let zero = V::splat(0.0);
                let mut rows = [[zero; 2]; 4];
                for i in 0..4 {
                    rows[i] = two([at(i, 0), at(i, 1), at(i, 2), at(i, 3)]);
                }
                for dx in 0..2 {
                    let down = two([rows[0][dx], rows[1][dx], rows[2][dx], rows[3][dx]]);
                    for (dy, value) in down.into_iter().enumerate() {
                        value.store(y.add((dy * 2 * tiles + 2 * t + dx) * STRIDE + column));
                    }
                }
            }
        }
    }
}
