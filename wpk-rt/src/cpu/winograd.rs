//! Convolutions of 3 by 3 by Winograd's minimal filtering (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016):
//! F(2x2, 3x3) makes two by two results of four by four elements by 16 products instead of 36, F(4x4, 3x3) four by four of six by six by 36
//! instead of 144. With a step of two, odd and even elements are filtered apart, by two taps and by one: two by two results of five by five elements
//! by 25 products. Images are transformed tile by tile, products by transformed weights are sums over channels for each place of a tile,
//! and results are transformed back before the epilogue. The error of the small tiles is about that of the plain sum, that of the large
//! ones, whose transforms multiply by up to 8 and divide by 24, some ten times as large. An infinite element makes all results of its tile
//! no number, those beside its window too.

use super::epilogue::Epilogue;
use super::isa::lanes;
use super::microkernel::{Kernels, NEAR, Next, ROWS, RowPointers, STRIDE};
use super::simd::Lanes;
use super::{Args, Bound, Cx, Transformed, part};
use crate::buffer::Memory;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use wpk_plan::problem::{Contraction, PANEL, Roles};
use wpk_plan::{DType, Filtering, WeightLayout};

/// KiB of transformed images that a task keeps, where no schedule tells.
const CACHED: u32 = 4096;
/// Channels below which transforming costs more than it saves.
const LEAST: usize = 32;

/// Products a nanosecond, weights that come from memory, and numbers that are transformed, on one core with wide vectors.
const PRODUCTS: f64 = 110.0;
const WEIGHTS: f64 = 4.5;
const TRANSFORMED: f64 = 6.0;

struct Winograd {
    kernels: Kernels,
    /// Results of a tile in each dimension, elements, and elements from a result to the next.
    size: usize,
    side: usize,
    step: usize,
    /// Bytes of transformed images that a task keeps.
    kept: usize,
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
    weights: OnceLock<Arc<Memory>>,
    transforms: Transforms,
}

/// For a convolution that it computes, and is worth it for; as a schedule tells, or by estimate.
pub(super) fn bind(c: &Contraction, layout: WeightLayout, filtering: Option<Filtering>) -> Option<Box<dyn Bound>> {
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
    // A spatial dimension moves with a result's row, by one or two, and with a tap, by one, alone.
    let side = |window: usize, tap: usize| {
        let mut found = c.a.dims.iter().filter(|d| d.index.terms.iter().any(|t| usize::from(t.0) == window));
        let (d, more) = (found.next()?, found.next());
        let mut terms = d.index.terms.clone();
        terms.sort_unstable();
        let by = |step: i64| terms == [(window as u8, step), (tap as u8, 1)];
        let step = [1, 2].into_iter().find(|&step| by(step))?;
        (more.is_none() && d.index.divisor == 1).then_some((d.stride, d.extent as i64, -d.index.offset, step))
    };
    let (rows, across) = (side(*p, *r)?, side(*q, *s)?);
    if rows.3 != across.3 {
        return None;
    }
    let step = rows.3 as usize;
    let others = &roles.m[..roles.m.len() - 2];
    let image = match others.iter().filter(|&&l| c.space[l] > 1).collect::<Vec<_>>()[..] {
        [] => 0,
        [&l] => c.a.stride(l, &c.space)?,
        _ => return None,
    };
    let epilogue = Epilogue::new(c, &[], &roles.m, &roles.n)?;
    let out = [c.space[*p], c.space[*q]];
    let work = |size: usize| Work::new((size, side_of(size, step)), roles.count(others), out, channels, columns);
    let estimated = if step == 1 && work(4).estimate() < work(2).estimate() { 4 } else { 2 };
    let slower = step == 2 && work(2).estimate() > Work::plain(roles.count(others), out, channels, columns).estimate();
    if filtering.is_none() && (slower || by_parts(c, &work(estimated))) {
        return None;
    }
    let estimated = Filtering { tile: estimated as u32, kept: CACHED };
    let Filtering { tile, kept } = filtering.unwrap_or(estimated);
    let size = if tile == 4 { 4 } else { 2 };
    if (size, step) == (4, 2) {
        return None;
    }
    Some(Box::new(Winograd {
        kernels: Kernels::get(),
        size,
        side: side_of(size, step),
        step,
        kept: (kept as usize) << 10,
        images: roles.count(others),
        out,
        base: c.a.offset as i64,
        strides: [image, rows.0, across.0],
        extents: [rows.1, across.1],
        before: [rows.2, across.2],
        channels,
        columns,
        epilogue,
        weights: OnceLock::new(),
        transforms: match (size, step) {
            (4, _) => transforms::<6, 4>(),
            (_, 1) => transforms::<4, 2>(),
            _ => transforms::<5, 2>(),
        },
    }))
}

/// Elements of a tile in each dimension, which are as many places of what they become.
fn side_of(size: usize, step: usize) -> usize {
    size * step + 3 - step
}

/// What a convolution takes.
struct Work {
    products: f64,
    weights: f64,
    transformed: f64,
}

impl Work {
    fn new((size, side): (usize, usize), images: usize, out: [usize; 2], channels: usize, columns: usize) -> Self {
        let places = side * side;
        let tiles = images * out[0].div_ceil(size) * out[1].div_ceil(size);
        let weights = places * channels * columns;
        Self { products: (tiles * weights) as f64, weights: weights as f64, transformed: (tiles * places * (channels + columns)) as f64 }
    }

    /// Of the plain sum.
    fn plain(images: usize, out: [usize; 2], channels: usize, columns: usize) -> Self {
        let weights = 9 * channels * columns;
        Self { products: (images * out[0] * out[1] * weights) as f64, weights: weights as f64, transformed: 0.0 }
    }

    /// Nanoseconds on one core: products, or reading the weights where that takes longer, and the transforms.
    fn estimate(&self) -> f64 {
        (self.products / PRODUCTS).max(self.weights / WEIGHTS) + self.transformed / TRANSFORMED
    }
}

/// Whether the plain sum takes less by tiles of this machine.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn by_parts(c: &Contraction, work: &Work) -> bool {
    use super::split::{MULTIPLIED, READ, faster};
    faster(c, work.products / MULTIPLIED + work.weights / READ + work.transformed / 6.0)
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn by_parts(_: &Contraction, _: &Work) -> bool {
    false
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
unsafe fn transformed(weights: *const f32, side: usize, channels: usize, panels: usize) -> Memory {
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

impl Winograd {
    /// Places of a transformed tile.
    fn places(&self) -> usize {
        self.side * self.side
    }

    /// Tiles of a result's row, and rows of tiles of all images.
    fn tiles(&self) -> (usize, usize) {
        (self.out[1].div_ceil(self.size), self.images * self.out[0].div_ceil(self.size))
    }

    /// Rows of tiles that a task takes at most.
    fn block(&self) -> usize {
        let tiles = self.kept / (self.places() * 4 * self.channels);
        (tiles / self.tiles().0).clamp(1, self.tiles().1)
    }

    /// Floats of a task's transformed images, of its products, and of the results of a row of tiles.
    fn own(&self) -> [usize; 3] {
        let (across, _) = self.tiles();
        let tiles = self.block() * across;
        let places = self.places();
        [places * tiles * self.channels, places * (tiles + ROWS) * STRIDE, self.size * self.size * across * STRIDE]
    }

    fn weights(&self, args: &[*mut u8]) -> &Arc<Memory> {
        let panels = self.columns.div_ceil(PANEL);
        self.weights.get_or_init(|| Arc::new(unsafe { transformed(args[1].cast::<f32>().cast_const(), self.side, self.channels, panels) }))
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
        // Sections begin at multiples of 64, so that a tile's side makes another key.
        let weights = known.entry(args[1] as usize + self.side).or_insert_with(|| self.weights(args).clone());
        let _ = self.weights.set(weights.clone());
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let (_, rows) = self.tiles();
        let (weights, threads) = (self.weights(args), cx.pool.threads());
        let (blocks, splits) = self.shared_out(rows, threads);
        let groups = self.columns.div_ceil(PANEL).div_ceil(self.kernels.panels);
        let arguments = Args(args);
        cx.pool.run(blocks * splits, &|task, thread| unsafe {
            let (rows, groups) = (part(rows, blocks, task / splits), part(groups, splits, task % splits));
            self.task(arguments.get(), weights.ptr().cast::<f32>().cast_const(), (rows, groups), cx.own(thread).cast());
        });
    }
}

impl Winograd {
    /// Into how many blocks rows of tiles are cut, and into how many parts columns, so that the busiest thread takes least: blocks read weights anew,
    /// parts transform images anew.
    fn shared_out(&self, rows: usize, threads: usize) -> (usize, usize) {
        let least = rows.div_ceil(self.block());
        let groups = self.columns.div_ceil(PANEL).div_ceil(self.kernels.panels);
        let Work { products, weights, .. } = self.work();
        let (places, across) = ((self.side * self.side) as f64, self.tiles().0 as f64);
        let time = |(blocks, parts): (usize, usize)| {
            let (most, part) = (rows.div_ceil(blocks) as f64, groups.div_ceil(parts) as f64 / groups as f64);
            let multiplied = (products / PRODUCTS * most / rows as f64).max(weights / WEIGHTS) * part;
            (blocks * parts).div_ceil(threads) as f64 * (multiplied + most * across * places * self.channels as f64 / TRANSFORMED)
        };
        let blocks = [least, least.next_multiple_of(threads).min(rows)];
        let all = blocks.iter().flat_map(|&b| [1, threads, 2 * threads].map(|parts| (b, parts.min(groups))));
        all.min_by(|a, b| time(*a).total_cmp(&time(*b))).unwrap_or((least, 1))
    }

    fn work(&self) -> Work {
        Work::new((self.size, self.side), self.images, self.out, self.channels, self.columns)
    }

    /// Some rows of tiles, for some groups of panels.
    unsafe fn task(&self, args: &[*mut u8], weights: *const f32, (rows, mine): (Range<usize>, Range<usize>), own: *mut f32) {
        let (across, _) = self.tiles();
        let [images, products, _] = self.own();
        let (v, m) = (own, own.wrapping_add(images));
        let y = m.wrapping_add(products);
        let scratch = y.wrapping_add(self.own()[2]).cast::<u8>();
        let (tiles, down) = (rows.len() * across, self.out[0].div_ceil(self.size));
        let x = args[0].cast::<f32>().wrapping_offset(self.base as isize).cast_const();
        for (i, row) in rows.clone().enumerate() {
            let (image, first) = (row / down, (self.size * self.step * (row % down)) as i64 - self.before[0]);
            let x = x.wrapping_offset((image as i64 * self.strides[0]) as isize);
            for t in 0..across {
                let corner = [first, (self.size * self.step * t) as i64 - self.before[1]];
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
            // Behind the last group whatever follows is asked for, which changes nothing.
            let first_of_next = weights.wrapping_add(group.end * self.channels * PANEL);
            for place in 0..self.places() {
                let b = weights.wrapping_add(place * size + group.start * self.channels * PANEL);
                let pitch = self.channels * PANEL;
                let following = if place + 1 < self.places() { b.wrapping_add(size) } else { first_of_next };
                let following = (self.places() * size >= NEAR).then_some(following);
                for (i, t) in (0..count).map(|t| part(tiles, count, t)).enumerate() {
                    let from = v.wrapping_add((place * tiles + t.start) * self.channels);
                    let pointers: RowPointers = std::array::from_fn(|r| from.wrapping_add(r.min(t.len() - 1) * self.channels).cast_const());
                    let to = m.wrapping_add((place * tiles + t.start) * STRIDE);
                    let kernel = self.kernels.kernel(t.len(), width);
                    unsafe {
                        kernel(&raw const pointers, 1, self.channels, 1, b, pitch, to, false, Next::of(following, width, pitch, (i, count)))
                    };
                }
            }
            for (i, row) in rows.clone().enumerate() {
                unsafe { (self.transforms.result)(m.wrapping_add(i * across * STRIDE), tiles * STRIDE, across, width, y) };
                let (image, first) = (row / down, self.size * (row % down));
                for dy in 0..(self.out[0] - first).min(self.size) {
                    let pixel = (image * self.out[0] + first + dy) * self.out[1];
                    let y = y.wrapping_add(dy * self.size * across * STRIDE);
                    unsafe { self.epilogue.store(y, 0, pixel, self.out[1], column, columns, args, scratch) };
                }
            }
        }
    }
}

/// The transforms, compiled for this machine.
struct Transforms {
    /// Of a tile's elements from a corner on: to the first place of its channels, and elements from one place to the next.
    image: unsafe fn(&Winograd, *const f32, [i64; 2], *mut f32, usize),
    /// Of products to the results of a row of tiles: first place, elements between places, tiles, panels, results.
    result: unsafe fn(*const f32, usize, usize, usize, *mut f32),
}

/// For tiles of `N` by `N` elements and `R` by `R` results.
fn transforms<const N: usize, const R: usize>() -> Transforms {
    macro_rules! compiled {
        ($V:ty $(, $feature:literal)?) => {{
            $(#[target_feature(enable = $feature)])?
            unsafe fn image<const N: usize>(w: &Winograd, x: *const f32, corner: [i64; 2], to: *mut f32, place: usize) {
                unsafe { image_body::<$V, N>(w, x, corner, to, place) }
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
unsafe fn image_body<V: Lanes, const N: usize>(w: &Winograd, x: *const f32, corner: [i64; 2], to: *mut f32, place: usize) {
    let inside = |i: usize, j: usize| {
        let at = [corner[0] + i as i64, corner[1] + j as i64];
        let inside = (0..w.extents[0]).contains(&at[0]) && (0..w.extents[1]).contains(&at[1]);
        inside.then(|| x.wrapping_offset((at[0] * w.strides[1] + at[1] * w.strides[2]) as isize))
    };
    let places: [[Option<*const f32>; N]; N] = std::array::from_fn(|i| std::array::from_fn(|j| inside(i, j)));
    for channel in (0..w.channels).step_by(PANEL) {
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
