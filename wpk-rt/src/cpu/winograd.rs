//! Convolutions of 3 by 3, and of 1 by 3 or 3 by 1, by Winograd's minimal filtering (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016):
//! F(2x2, 3x3) makes two by two results of four by four elements by 16 products instead of 36, F(4x4, 3x3) four by four of six by six by 36
//! instead of 144, F(6x6, 3x3) six by six of eight by eight by 64 instead of 324. With a step of two, odd and even elements are filtered apart, by two taps and by one: two by two results of five by five elements
//! by 25 products. Filters of three taps in one dimension are filtered along that one, by four products for six, six for twelve, or eight for eighteen. Images are transformed tile by tile, products by transformed weights are sums over channels for each place of a tile,
//! and results are transformed back before the epilogue. The error of the small tiles is about that of the plain sum, that of the large
//! ones, whose transforms multiply by up to 8 and divide by 24, some ten times as large, and that of the largest larger again, so that those are used where a
//! schedule says so. An infinite element makes all results of its tile
//! no number, those beside its window too.

use super::epilogue::Epilogue;
use super::microkernel::{Kernels, NEAR, Next, ROWS, RowPointers, STRIDE};
use super::transforms::{Images, Transforms, transformed, transforms};
use super::{Args, Bound, Cx, Transformed, part};
use crate::buffer::Memory;
use crate::pool::{self, Pool};
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use wpk_plan::problem::{Contraction, PANEL, Roles};
use wpk_plan::{DType, Filtering, WeightLayout};

/// KiB of transformed images that a task keeps, where no schedule tells.
const CACHED: u32 = 4096;
/// Channels below which transforming costs more than it saves.
const LEAST: usize = 32;

/// Kernels that read the same panels, up to which it does not matter from which cache.
const AGAIN: usize = 3;
/// Products a nanosecond, weights that come from memory, and numbers that are transformed, on one core with wide vectors.
const PRODUCTS: f64 = 110.0;
const WEIGHTS: f64 = 4.5;
const TRANSFORMED: f64 = 6.0;

struct Winograd {
    kernels: Kernels,
    /// In each dimension: results of a tile, its elements, and elements from a result to the next.
    size: [usize; 2],
    side: [usize; 2],
    step: [usize; 2],
    /// Bytes of transformed images that a task keeps.
    kept: usize,
    /// Images, result rows and columns.
    images: usize,
    out: [usize; 2],
    /// The first factor, where it begins, and how far before it results do.
    x: Images,
    base: i64,
    before: [i64; 2],
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
    let taps = [c.space[*r], c.space[*s]];
    if !fits || !wide || !matches!(taps, [3, 3] | [1, 3] | [3, 1]) {
        return None;
    }
    // A spatial dimension moves with a result's row and with a tap, by one, alone.
    let side = |window: usize, tap: usize| {
        let mut found = c.a.dims.iter().filter(|d| d.index.terms.iter().any(|t| usize::from(t.0) == window));
        let (d, more) = (found.next()?, found.next());
        let mut terms: Vec<(u8, i64)> = d.index.terms.iter().copied().filter(|t| c.space[usize::from(t.0)] > 1).collect();
        terms.sort_unstable();
        let step = match terms[..] {
            [(l, step)] if usize::from(l) == window && c.space[tap] == 1 => step,
            [(l, step), (t, 1)] if (usize::from(l), usize::from(t)) == (window, tap) => step,
            _ => return None,
        };
        (more.is_none() && step > 0 && d.index.divisor == 1).then_some((d.stride, d.extent as i64, -d.index.offset, step))
    };
    let (rows, across) = (side(*p, *r)?, side(*q, *s)?);
    let step = [rows.3 as usize, across.3 as usize];
    // Of dimensions with three taps.
    let filtered = [0, 1].map(|d| (taps[d] == 3).then_some(step[d]));
    let steps_of_two = match filtered {
        [Some(1) | None, Some(1) | None] => false,
        [Some(2), Some(2)] => true,
        _ => return None,
    };
    let others = &roles.m[..roles.m.len() - 2];
    let image = match others.iter().filter(|&&l| c.space[l] > 1).collect::<Vec<_>>()[..] {
        [] => 0,
        [&l] => c.a.stride(l, &c.space)?,
        _ => return None,
    };
    let epilogue = Epilogue::new(c, &[], &roles.m, &roles.n)?;
    let out = [c.space[*p], c.space[*q]];
    let sizes = |size: usize| taps.map(|n| if n == 3 { size } else { 1 });
    let sides = |size: usize| [0, 1].map(|d| if taps[d] == 3 { size * step[d] + 3 - step[d] } else { 1 });
    let work = |size: usize| Work::new((sizes(size), sides(size)), roles.count(others), out, channels, columns);
    let estimated = if !steps_of_two && work(4).estimate() < work(2).estimate() { 4 } else { 2 };
    let plain = Work::plain(taps, roles.count(others), out, channels, columns);
    let slower = (steps_of_two || taps != [3, 3]) && work(estimated).estimate() > plain.estimate();
    if filtering.is_none() && (slower || by_parts(c, &work(estimated))) {
        return None;
    }
    let estimated = Filtering { tile: estimated as u32, kept: CACHED };
    let Filtering { tile, kept } = filtering.unwrap_or(estimated);
    let size = if tile == 4 || tile == 6 { tile as usize } else { 2 };
    if size > 2 && steps_of_two {
        return None;
    }
    Some(Box::new(Winograd {
        kernels: Kernels::get(),
        size: sizes(size),
        side: sides(size),
        step,
        kept: (kept as usize) << 10,
        images: roles.count(others),
        out,
        base: c.a.offset as i64,
        x: Images { strides: [image, rows.0, across.0], extents: [rows.1, across.1], channels },
        before: [rows.2, across.2],
        columns,
        epilogue,
        weights: OnceLock::new(),
        transforms: match (taps, size, steps_of_two) {
            ([1, _], 6, _) => transforms::<1, 8, 1, 6>(),
            ([1, _], 4, _) => transforms::<1, 6, 1, 4>(),
            ([1, _], ..) => transforms::<1, 4, 1, 2>(),
            ([_, 1], 6, _) => transforms::<8, 1, 6, 1>(),
            ([_, 1], 4, _) => transforms::<6, 1, 4, 1>(),
            ([_, 1], ..) => transforms::<4, 1, 2, 1>(),
            (_, 6, _) => transforms::<8, 8, 6, 6>(),
            (_, 4, _) => transforms::<6, 6, 4, 4>(),
            (.., true) => transforms::<5, 5, 2, 2>(),
            _ => transforms::<4, 4, 2, 2>(),
        },
    }))
}

/// What a convolution takes.
struct Work {
    products: f64,
    weights: f64,
    transformed: f64,
}

impl Work {
    fn new((size, side): ([usize; 2], [usize; 2]), images: usize, out: [usize; 2], channels: usize, columns: usize) -> Self {
        let places = side[0] * side[1];
        let tiles = images * out[0].div_ceil(size[0]) * out[1].div_ceil(size[1]);
        let weights = places * channels * columns;
        Self { products: (tiles * weights) as f64, weights: weights as f64, transformed: (tiles * places * (channels + columns)) as f64 }
    }

    /// Of the plain sum.
    fn plain(taps: [usize; 2], images: usize, out: [usize; 2], channels: usize, columns: usize) -> Self {
        let weights = taps[0] * taps[1] * channels * columns;
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
    // Weights are read while others are multiplied; more than third caches keep beside other steps' come from memory.
    const KEPT: f64 = 2e6;
    let read = work.weights / if work.weights > KEPT { READ / 2.0 } else { READ };
    faster(c, (work.products / MULTIPLIED).max(read) + work.transformed / 6.0)
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn by_parts(_: &Contraction, _: &Work) -> bool {
    false
}

/// Depth of panels up to which they are read again from the second cache as fast as they are multiplied: less where tiles are than elsewhere.
fn near() -> usize {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if super::amx::has(super::amx::BF16) {
        return 128;
    }
    usize::MAX
}

impl Winograd {
    /// Places of a transformed tile.
    fn places(&self) -> usize {
        self.side[0] * self.side[1]
    }

    /// Tiles of a result's row, and rows of tiles of all images.
    fn tiles(&self) -> (usize, usize) {
        (self.out[1].div_ceil(self.size[1]), self.images * self.out[0].div_ceil(self.size[0]))
    }

    /// Rows of tiles that a task takes at most.
    fn block(&self) -> usize {
        let tiles = self.kept / (self.places() * 4 * self.x.channels);
        (tiles / self.tiles().0).clamp(1, self.tiles().1)
    }

    /// Floats of a task's transformed images, of its products, and of the results of a row of tiles.
    fn own(&self) -> [usize; 3] {
        let (across, _) = self.tiles();
        let tiles = self.block() * across;
        let places = self.places();
        [places * tiles * self.x.channels, places * (tiles + ROWS) * STRIDE, self.size[0] * self.size[1] * across * STRIDE]
    }

    fn weights(&self, args: &[*mut u8], pool: &Pool) -> &Arc<Memory> {
        let sizes = (self.x.channels, self.columns.div_ceil(PANEL));
        self.weights.get_or_init(|| Arc::new(unsafe { transformed(args[1].cast::<f32>().cast_const(), self.side, sizes, pool) }))
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
        // Sections begin at multiples of 64, so that a tile's sides make another key.
        let key = match self.side {
            [1, side] => 16 + side,
            [side, 1] => 32 + side,
            [side, _] => side,
        };
        let weights = known.entry(args[1] as usize + key).or_insert_with(|| self.weights(args, pool::global()).clone());
        let _ = self.weights.set(weights.clone());
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let (_, rows) = self.tiles();
        let (weights, threads) = (self.weights(args, cx.pool), cx.pool.threads());
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
        let (places, across) = (self.places() as f64, self.tiles().0 as f64);
        let time = |(blocks, parts): (usize, usize)| {
            let (most, part) = (rows.div_ceil(blocks) as f64, groups.div_ceil(parts) as f64 / groups as f64);
            let multiplied = (products / PRODUCTS * most / rows as f64).max(weights / WEIGHTS) * part;
            (blocks * parts).div_ceil(threads) as f64 * (multiplied + most * across * places * self.x.channels as f64 / TRANSFORMED)
        };
        let blocks = [least, least.next_multiple_of(threads).min(rows)];
        let all = blocks.iter().flat_map(|&b| [1, threads, 2 * threads].map(|parts| (b, parts.min(groups))));
        all.min_by(|a, b| time(*a).total_cmp(&time(*b))).unwrap_or((least, 1))
    }

    fn work(&self) -> Work {
        Work::new((self.size, self.side), self.images, self.out, self.x.channels, self.columns)
    }

    /// Some rows of tiles, for some groups of panels.
    unsafe fn task(&self, args: &[*mut u8], weights: *const f32, (rows, mine): (Range<usize>, Range<usize>), own: *mut f32) {
        let (across, _) = self.tiles();
        let [images, products, _] = self.own();
        let (v, m) = (own, own.wrapping_add(images));
        let y = m.wrapping_add(products);
        let scratch = y.wrapping_add(self.own()[2]).cast::<u8>();
        let (tiles, down) = (rows.len() * across, self.out[0].div_ceil(self.size[0]));
        let x = args[0].cast::<f32>().wrapping_offset(self.base as isize).cast_const();
        for (i, row) in rows.clone().enumerate() {
            let (image, first) = (row / down, (self.size[0] * self.step[0] * (row % down)) as i64 - self.before[0]);
            let x = x.wrapping_offset((image as i64 * self.x.strides[0]) as isize);
            for t in 0..across {
                let corner = [first, (self.size[1] * self.step[1] * t) as i64 - self.before[1]];
                let to = v.wrapping_add((i * across + t) * self.x.channels);
                unsafe { (self.transforms.image)(&self.x, x, corner, to, tiles * self.x.channels) };
            }
        }
        let panels = self.columns.div_ceil(PANEL);
        let groups = panels.div_ceil(self.kernels.panels);
        let size = panels * self.x.channels * PANEL;
        for group in mine {
            let group = part(panels, groups, group);
            let (width, column) = (group.len(), group.start * PANEL);
            let columns = (self.columns - column).min(width * PANEL);
            let count = tiles.div_ceil(self.kernels.rows(width));
            // Behind the last group whatever follows is asked for, which changes nothing.
            let first_of_next = weights.wrapping_add(group.end * self.x.channels * PANEL);
            for place in 0..self.places() {
                let b = weights.wrapping_add(place * size + group.start * self.x.channels * PANEL);
                let pitch = self.x.channels * PANEL;
                let following = if place + 1 < self.places() { b.wrapping_add(size) } else { first_of_next };
                let following = (self.places() * size >= NEAR).then_some(following);
                // Where many rows of tiles read panels, a part of the depth stays near until all did.
                let cuts = if count > AGAIN { self.x.channels.div_ceil(near()) } else { 1 };
                for (cut, i) in (0..cuts).flat_map(|cut| (0..count).map(move |i| (cut, i))) {
                    let (t, depth) = (part(tiles, count, i), part(self.x.channels, cuts, cut));
                    let from = v.wrapping_add((place * tiles + t.start) * self.x.channels + depth.start);
                    let pointers: RowPointers =
                        std::array::from_fn(|r| from.wrapping_add(r.min(t.len() - 1) * self.x.channels).cast_const());
                    let to = m.wrapping_add((place * tiles + t.start) * STRIDE);
                    let kernel = self.kernels.kernel(t.len(), width);
                    unsafe {
                        kernel(
                            &raw const pointers,
                            1,
                            depth.len(),
                            1,
                            b.wrapping_add(depth.start * PANEL),
                            pitch,
                            to,
                            cut > 0,
                            Next::of(following.map(|f| f.wrapping_add(depth.start * PANEL)), width, pitch, (i, count)),
                        )
                    };
                }
            }
            unsafe { self.epilogue.prepare(0, (column, columns), args, scratch) };
            for (i, row) in rows.clone().enumerate() {
                unsafe { (self.transforms.result)(m.wrapping_add(i * across * STRIDE), tiles * STRIDE, across, width, y) };
                let (image, first) = (row / down, self.size[0] * (row % down));
                for dy in 0..(self.out[0] - first).min(self.size[0]) {
                    let pixel = (image * self.out[0] + first + dy) * self.out[1];
                    let y = y.wrapping_add(dy * self.size[1] * across * STRIDE);
                    unsafe { self.epilogue.store(y, 0, pixel, self.out[1], column, columns, args, scratch) };
                }
            }
        }
    }
}
