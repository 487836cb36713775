//! Depthwise convolution: every channel by itself, vectors along the channels.

use super::epilogue::Epilogue;
use super::isa::{Isa, isa};
use super::microkernel::{Direct, STRIDE};
use super::places::{OUTSIDE, row_table};
use super::simd::Lanes;
use super::simd::Plain;
use super::{Args, Bound, Cx, part};
use wpk_plan::DType;
use wpk_plan::problem::{Contraction, PANEL};

/// Rows of a tile.
const ROWS: usize = 8;

/// An element that is multiplied as `f32`.
trait Element: Copy + 'static {
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
    rows: usize,
    channels: usize,
    epilogue: Epilogue,
    sums: Sums<E>,
}

/// For a contraction in which every loop of the second factor but the window belongs to the first too.
pub(super) fn bind(c: &Contraction) -> Option<Box<dyn Bound>> {
    let roles = c.roles();
    let [.., last] = roles.batch[..] else { return None };
    if !roles.n.is_empty() || roles.channel.is_some() {
        return None;
    }
    // Channels lie together in the input and the weights, and weights by tap.
    let contiguous = |offsets: Vec<i64>| offsets.iter().enumerate().all(|(i, &o)| o == i as i64);
    let channels = roles.count(&roles.batch);
    let taps = roles.count(&roles.taps);
    let weights = roles.offsets(&c.b, &[roles.taps.clone(), roles.batch.clone()].concat())?;
    if !contiguous(roles.offsets(&c.a, &roles.batch)?) || !contiguous(weights) || c.b.base() != 0 || c.space[last] < 2 {
        return None;
    }
    let table = row_table(c, &roles.m, &roles.taps)?;
    let epilogue = Epilogue::new(c, &[], &roles.m, &roles.batch)?;
    let rows = roles.count(&roles.m);
    match (c.dtype, c.sum) {
        (DType::I8, DType::I32) if taps <= 1000 => {
            Some(Box::new(Channelwise { table, taps, rows, channels, epilogue, sums: kernel::<i8>() }))
        }
        (DType::F32, DType::F32) => Some(Box::new(Channelwise { table, taps, rows, channels, epilogue, sums: kernel::<f32>() })),
        _ => None,
    }
}

impl<E: Element> Bound for Channelwise<E> {
    fn scratch(&self) -> (usize, usize) {
        (0, ROWS * STRIDE * 4 + self.epilogue.scratch())
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let (tiles, groups) = (self.rows.div_ceil(ROWS), self.channels.div_ceil(STRIDE));
        let total = tiles * groups;
        let tasks = if cx.pool.threads() == 1 { 1 } else { (4 * cx.pool.threads()).min(total) };
        let arguments = Args(args);
        cx.pool.run(tasks, &|task, thread| unsafe {
            let tile = cx.own(thread).cast::<f32>();
            let scratch = tile.add(ROWS * STRIDE).cast::<u8>();
            for unit in part(total, tasks, task) {
                let (row, channel) = (unit / groups * ROWS, unit % groups * STRIDE);
                let (height, width) = ((self.rows - row).min(ROWS), (self.channels - channel).min(STRIDE));
                let args = arguments.get();
                let (x, w) = (args[0].cast::<E>().add(channel), args[1].cast::<E>().add(channel));
                let table = &self.table[row * self.taps..(row + height) * self.taps];
                let direct = self.epilogue.direct(0, row, (channel, width), args).filter(|_| E::STORES && width.is_multiple_of(PANEL));
                (self.sums)(table, self.taps, x, w, self.channels, width, (tile, direct));
                if direct.is_none() {
                    self.epilogue.store(tile, 0, row, height, channel, width, args, scratch);
                }
            }
        });
    }
}

/// Where sums go: to a tile, or past it to memory.
type To = (*mut f32, Option<Direct>);

type Sums<E> = unsafe fn(&[i32], usize, *const E, *const E, usize, usize, To);

/// The kernel of this machine: table, taps, input, weights, channels in all, channels here, where sums go. Rows and vectors at once are as many as
/// sums fit registers.
fn kernel<E: Element>() -> Sums<E> {
    macro_rules! compiled {
        ($V:ty, $rows:literal x $vectors:literal $(, $feature:literal)?) => {{
            $(#[target_feature(enable = $feature)])?
            unsafe fn sums<E: Element>(table: &[i32], taps: usize, x: *const E, w: *const E, channels: usize, width: usize, to: To) {
                unsafe { body::<E, $V, $rows, $vectors>(table, taps, x, w, channels, width, to) }
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
    (tile, direct): To,
) {
    unsafe {
        let ends = |at: usize| direct.map_or(Ends::Tile(tile.wrapping_add(at)), |to| Ends::At(to.at_column(at)));
        let mut at = 0;
        while at + N * PANEL <= width {
            columns::<E, V, R, N>(table, taps, x.add(at), w.add(at), channels, ends(at));
            at += N * PANEL;
        }
        while at + PANEL <= width {
            columns::<E, V, R, 1>(table, taps, x.add(at), w.add(at), channels, ends(at));
            at += PANEL;
        }
        if at < width && width >= PANEL {
            // The last vector overlaps the one before and repeats some of its sums.
            let at = width - PANEL;
            columns::<E, V, R, 1>(table, taps, x.add(at), w.add(at), channels, ends(at));
        } else {
            (at..width).for_each(|at| single(table, taps, x.add(at), w.add(at), channels, tile.add(at)));
        }
    }
}

/// Where the sums of some vectors go.
#[derive(Clone, Copy)]
enum Ends {
    Tile(*mut f32),
    At(Direct),
}

impl Ends {
    #[inline(always)]
    fn at_row(self, row: usize) -> Self {
        match self {
            Self::Tile(tile) => Self::Tile(tile.wrapping_add(row * STRIDE)),
            Self::At(to) => Self::At(to.at_row(row)),
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
        let mut sums = [[V::splat(0.0); N]; R];
        if let Ends::At(to) = &ends {
            to.begin(&mut sums);
        }
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
        match ends {
            Ends::At(to) => to.end(sums),
            Ends::Tile(tile) => {
                for r in 0..R {
                    for j in 0..N {
                        E::store(sums[r][j], tile.add(r * STRIDE + j * PANEL));
                    }
                }
            }
        }
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
