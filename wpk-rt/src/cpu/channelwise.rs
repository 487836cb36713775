//! Depthwise convolution: every channel by itself, vectors along the channels.

use super::chain::ByRows;
use super::epilogue::Epilogue;
use super::isa::{Isa, isa};
use super::microkernel::{Direct, STRIDE};
use super::places::{OUTSIDE, reach, row_table};
use super::simd::{Lanes, Plain};
use super::sliding::{self, Columns, Slide, Tile, Windows};
use super::{Args, Bound, Cx, part};
use std::ops::Range;
use wpk_plan::DType;
use wpk_plan::problem::{Contraction, PANEL};

/// Results of a row of a tile, at most.
const ROWS: usize = 8;

/// An element that is multiplied as `f32`.
pub(super) trait Element: Copy + Send + Sync + 'static {
    /// What stands for elements outside.
    const ZEROS: &'static [Self; STRIDE];
    /// Whether sums go to memory as they are.
    const STORES: bool;
    /// Sixteen neighbours.
    unsafe fn load<V: Lanes>(p: *const Self) -> V;
    fn float(self) -> f32;
    /// Sixteen sums in their type.
    unsafe fn store<V: Lanes>(sums: V, p: *mut f32);
    /// A sum in its type, as bits.
    fn sum(x: f32) -> f32;
}

impl Element for f32 {
    const ZEROS: &'static [Self; STRIDE] = &[0.0; STRIDE];
    const STORES: bool = true;
    #[inline(always)]
    unsafe fn load<V: Lanes>(p: *const Self) -> V {
        unsafe { V::load(p) }
    }
    fn float(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn store<V: Lanes>(sums: V, p: *mut f32) {
        unsafe { sums.store(p) }
    }
    fn sum(x: f32) -> f32 {
        x
    }
}

/// Sums of products of bytes are exact in `f32` up to a thousand taps.
impl Element for i8 {
    const ZEROS: &'static [Self; STRIDE] = &[0; STRIDE];
    const STORES: bool = false;
    #[inline(always)]
    unsafe fn load<V: Lanes>(p: *const Self) -> V {
        unsafe { V::load_bytes(p) }
    }
    fn float(self) -> f32 {
        self.into()
    }
    #[inline(always)]
    unsafe fn store<V: Lanes>(sums: V, p: *mut f32) {
        unsafe { sums.store_whole(p.cast()) }
    }
    fn sum(x: f32) -> f32 {
        f32::from_bits(x as i32 as u32)
    }
}

struct Channelwise<E> {
    table: Vec<i32>,
    taps: usize,
    /// Results of a row, which lie along the last loop that moves the input alone.
    row: usize,
    channels: usize,
    tiles: Vec<Tile>,
    sums: Sums<E>,
    sliding: Option<Sliding<E>>,
    epilogue: Epilogue,
}

/// Windows that slide, with their kernels by rows and whether tiles are inside the input.
struct Sliding<E> {
    slide: Slide,
    kernels: [[sliding::Sums<E>; 2]; sliding::ROWS],
    /// What is outside, of all channels.
    zeros: Vec<E>,
}

/// For a contraction in which every loop of the second factor but the window belongs to the first too.
pub(super) fn bind(c: &Contraction) -> Option<Box<dyn Bound>> {
    match (c.dtype, c.sum) {
        (DType::I8, DType::I32) if c.inner().iter().product::<usize>() <= 1000 => Some(Box::new(Channelwise::<i8>::new(c)?)),
        (DType::F32, DType::F32) => Some(Box::new(Channelwise::<f32>::new(c)?)),
        _ => None,
    }
}

/// The same where rows are made by bands.
pub(super) fn by_rows(c: &Contraction) -> Option<impl ByRows + use<>> {
    Channelwise::<f32>::new(c)
}

impl<E: Element> Channelwise<E> {
    fn new(c: &Contraction) -> Option<Self> {
        let roles = c.channelwise()?;
        let channels = roles.count(&roles.batch);
        let table = row_table(c, &roles.m, &roles.taps)?;
        let epilogue = Epilogue::new(c, &[], &roles.m, &roles.batch)?;
        let (rows, taps) = (roles.count(&roles.m), roles.count(&roles.taps));
        let along = |loops: &[usize]| loops.iter().map(|&l| c.space[l]).rfind(|&n| n > 1).unwrap_or(1);
        let row = along(&roles.m);
        let sliding = Sliding::new(&table, taps, along(&roles.taps), row, channels);
        let tiles = match &sliding {
            Some(sliding) => sliding.slide.tiles(&table, taps, row),
            None => (0..rows)
                .step_by(ROWS)
                .map(|first| Tile { first, rows: 1, width: (rows - first).min(ROWS), windows: Windows::Any })
                .collect(),
        };
        Some(Self { table, taps, row, channels, tiles, sums: kernel::<E>(), sliding, epilogue })
    }
}

impl<E: Element> Sliding<E> {
    fn new(table: &[i32], taps: usize, columns: usize, row: usize, channels: usize) -> Option<Self> {
        let slide = Slide::new(table, taps, columns, row)?;
        let mut kernels = [[None; 2]; sliding::ROWS];
        for (rows, some) in (1..).zip(&mut kernels) {
            *some = [false, true].map(|inside| sliding::kernel::<E>(&slide, rows, inside));
        }
        // One row at a time where registers are few.
        let first = kernels[0];
        let kernels = kernels.map(|some| std::array::from_fn(|inside| some[inside].or(first[inside])));
        let [[Some(a), Some(b)], [Some(c), Some(d)]] = kernels else { return None };
        Some(Self { slide, kernels: [[a, b], [c, d]], zeros: vec![E::ZEROS[0]; channels] })
    }
}

impl<E: Element> Bound for Channelwise<E> {
    fn scratch(&self) -> (usize, usize) {
        (0, sliding::ROWS * ROWS * STRIDE * 4 + self.epilogue.scratch())
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let total = self.tiles.len() * self.groups();
        let tasks = if cx.pool.threads() == 1 { 1 } else { (4 * cx.pool.threads()).min(total) };
        let arguments = Args(args);
        cx.pool.run(tasks, &|task, thread| unsafe { self.units(arguments.get(), part(total, tasks, task), cx.own(thread)) });
    }
}

impl<E: Element> ByRows for Channelwise<E> {
    fn rows(&self) -> (usize, usize) {
        // Tiles lie one behind the other, in rows of as many.
        let tall = self.tiles.iter().map(|t| t.rows).max().unwrap_or(1);
        let together = if self.sliding.is_some() { tall * self.row } else { ROWS };
        (self.table.len() / self.taps, together)
    }

    fn reach(&self, rows: &Range<usize>) -> Range<usize> {
        reach(&self.table[rows.start * self.taps..rows.end * self.taps], self.channels)
    }

    fn own(&self) -> usize {
        self.scratch().1
    }

    unsafe fn some(&self, args: &[*mut u8], rows: Range<usize>, own: *mut u8) {
        let [start, end] = [rows.start, rows.end].map(|row| self.tiles.partition_point(|t| t.first < row) * self.groups());
        unsafe { self.units(args, start..end, own) }
    }
}

impl<E: Element> Channelwise<E> {
    /// Vectors of channels, some at a time.
    fn groups(&self) -> usize {
        self.channels.div_ceil(STRIDE)
    }

    /// Some tiles of some channels, by their numbers.
    unsafe fn units(&self, args: &[*mut u8], units: Range<usize>, own: *mut u8) {
        let (groups, own) = (self.groups(), own.cast::<f32>());
        unsafe {
            let scratch = own.add(sliding::ROWS * ROWS * STRIDE).cast::<u8>();
            let (x, w) = (args[0].cast::<E>().cast_const(), args[1].cast::<E>().cast_const());
            let (mut columns, mut known) = (Columns::new(), usize::MAX);
            // Of all rows and channels; whole panels alone go to memory at once.
            let direct = self.epilogue.direct(0, 0, (0, self.channels), args).filter(|_| E::STORES);
            let direct = direct.map(|to| Direct { last: PANEL, ..to });
            for unit in units {
                let (at, channel) = (unit / groups, unit % groups * STRIDE);
                let (tile, width) = (&self.tiles[at], (self.channels - channel).min(STRIDE));
                let first = |a: usize| tile.first + a * self.row;
                let direct = direct.as_ref().filter(|_| width.is_multiple_of(PANEL));
                // Rows of sums lie together in memory.
                let at_once = |to| (Ends::At { to, row: tile.first, column: channel }, self.row);
                let (ends, step) = direct.map_or((Ends::Tile(own), ROWS), at_once);
                match &self.sliding {
                    Some(Sliding { slide, kernels, zeros }) if width >= PANEL && tile.windows != Windows::Any => {
                        let inside = slide.inside(tile);
                        if known != at {
                            columns.set(slide, tile, inside, x, zeros.as_ptr());
                            known = at;
                        }
                        let kernel = kernels[tile.rows - 1][usize::from(inside)];
                        kernel(slide, &columns, channel, w.add(channel), self.channels, width, (ends, step));
                    }
                    _ => {
                        for a in 0..tile.rows {
                            let table = &self.table[first(a) * self.taps..][..tile.width * self.taps];
                            (self.sums)(
                                table,
                                self.taps,
                                x.wrapping_add(channel),
                                w.add(channel),
                                self.channels,
                                width,
                                ends.at_row(a * step),
                            );
                        }
                    }
                }
                if direct.is_none() {
                    self.epilogue.prepare(0, (channel, width), args, scratch);
                }
                for a in (0..tile.rows).filter(|_| direct.is_none()) {
                    self.epilogue.store(own.add(a * ROWS * STRIDE), 0, first(a), tile.width, channel, width, args, scratch);
                }
            }
        }
    }
}

type Sums<E> = unsafe fn(&[i32], usize, *const E, *const E, usize, usize, Ends);

/// The kernel of this machine: table, taps, input, weights, channels in all, channels here, where sums go. Rows and vectors at once are as many as
/// sums fit registers.
fn kernel<E: Element>() -> Sums<E> {
    macro_rules! compiled {
        ($V:ty, $rows:literal x $vectors:literal $(, $feature:literal)?) => {{
            $(#[target_feature(enable = $feature)])?
            unsafe fn sums<E: Element>(table: &[i32], taps: usize, x: *const E, w: *const E, channels: usize, width: usize, ends: Ends) {
                unsafe { body::<E, $V, $rows, $vectors>(table, taps, x, w, channels, width, ends) }
            }
            sums::<E>
        }};
    }
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => compiled!(super::simd::x86::Avx512, 8 x 2, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => compiled!(super::simd::x86::Avx2, 4 x 1, "avx2,fma"),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => compiled!(super::simd::arm::Neon, 4 x 1, "neon"),
        Isa::Portable => compiled!(Plain, 4 x 1),
    }
}

#[inline(always)]
unsafe fn body<E: Element, V: Lanes, const R: usize, const N: usize>(
    table: &[i32],
    taps: usize,
    x: *const E,
    w: *const E,
    channels: usize,
    width: usize,
    ends: Ends,
) {
    unsafe {
        let mut at = 0;
        while at + N * PANEL <= width {
            columns::<E, V, R, N>(table, taps, x.add(at), w.add(at), channels, ends.at_column(at));
            at += N * PANEL;
        }
        while at + PANEL <= width {
            columns::<E, V, R, 1>(table, taps, x.add(at), w.add(at), channels, ends.at_column(at));
            at += PANEL;
        }
        if at < width && width >= PANEL {
            // The last vector overlaps the one before and repeats some of its sums.
            let at = width - PANEL;
            columns::<E, V, R, 1>(table, taps, x.add(at), w.add(at), channels, ends.at_column(at));
        } else if let Ends::Tile(tile) = ends {
            (at..width).for_each(|at| single(table, taps, x.add(at), w.add(at), channels, tile.add(at)));
        }
    }
}

/// Where the sums of some vectors go.
#[derive(Clone, Copy)]
pub(super) enum Ends<'a> {
    Tile(*mut f32),
    /// Memory, from a row and a column on.
    At {
        to: &'a Direct,
        row: usize,
        column: usize,
    },
}

impl Ends<'_> {
    #[inline(always)]
    pub(super) fn at_row(self, by: usize) -> Self {
        match self {
            Self::Tile(tile) => Self::Tile(tile.wrapping_add(by * STRIDE)),
            Self::At { to, row, column } => Self::At { to, row: row + by, column },
        }
    }

    #[inline(always)]
    pub(super) fn at_column(self, by: usize) -> Self {
        match self {
            Self::Tile(tile) => Self::Tile(tile.wrapping_add(by)),
            Self::At { to, row, column } => Self::At { to, row, column: column + by },
        }
    }

    /// What the sums of some rows begin with.
    #[inline(always)]
    pub(super) unsafe fn begin<V: Lanes, const R: usize, const N: usize>(self) -> [[V; N]; R] {
        unsafe {
            let mut sums = [[V::splat(0.0); N]; R];
            if let Self::At { to, row, column } = self {
                to.at_row(row).at_column(column).begin(&mut sums);
            }
            sums
        }
    }

    #[inline(always)]
    pub(super) unsafe fn take<E: Element, V: Lanes, const R: usize, const N: usize>(self, sums: [[V; N]; R]) {
        match self {
            Self::At { to, row, column } => unsafe { to.at_row(row).at_column(column).end(sums) },
            Self::Tile(tile) => {
                for r in 0..R {
                    for j in 0..N {
                        unsafe { E::store(sums[r][j], tile.add(r * STRIDE + j * PANEL)) };
                    }
                }
            }
        }
    }
}

/// All rows of some vectors.
#[inline(always)]
unsafe fn columns<E: Element, V: Lanes, const R: usize, const N: usize>(
    table: &[i32],
    taps: usize,
    x: *const E,
    w: *const E,
    channels: usize,
    ends: Ends,
) {
    let whole = table.len() / (R * taps) * R;
    for row in (0..whole).step_by(R) {
        unsafe { rows::<E, V, R, N>(&table[row * taps..], taps, x, w, channels, ends.at_row(row)) }
    }
    for row in whole..table.len() / taps {
        unsafe { rows::<E, V, 1, N>(&table[row * taps..], taps, x, w, channels, ends.at_row(row)) }
    }
}

/// Some rows of some vectors: a tap's weights are read once for all of them.
#[inline(always)]
unsafe fn rows<E: Element, V: Lanes, const R: usize, const N: usize>(
    table: &[i32],
    taps: usize,
    x: *const E,
    w: *const E,
    channels: usize,
    ends: Ends,
) {
    unsafe {
        let mut sums = ends.begin::<V, R, N>();
        for tap in 0..taps {
            let mut weights = [V::splat(0.0); N];
            for j in 0..N {
                weights[j] = E::load::<V>(w.add(tap * channels + j * PANEL));
            }
            for r in 0..R {
                let offset = *table.get_unchecked(r * taps + tap);
                let x = if offset == OUTSIDE { E::ZEROS.as_ptr() } else { x.wrapping_offset(offset as isize) };
                for j in 0..N {
                    sums[r][j] = sums[r][j].mul_add(E::load(x.add(j * PANEL)), weights[j]);
                }
            }
        }
        ends.take::<E, V, R, N>(sums);
    }
}

unsafe fn single<E: Element>(table: &[i32], taps: usize, x: *const E, w: *const E, channels: usize, tile: *mut f32) {
    for (r, offsets) in table.chunks_exact(taps).enumerate() {
        let terms = offsets.iter().enumerate().filter(|o| *o.1 != OUTSIDE);
        unsafe {
            let sum = terms.map(|(t, &o)| (*x.offset(o as isize)).float() * (*w.add(t * channels)).float()).sum();
            tile.add(r * STRIDE).write(E::sum(sum));
        }
    }
}
