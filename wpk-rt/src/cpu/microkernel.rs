//! The innermost matrix product: a few rows times a few panels of sixteen columns, sums in registers.

use super::isa::{Isa, isa};
use super::simd::{Lanes, Plain};
use wpk_plan::problem::PANEL;

/// Most rows of a tile.
pub(crate) const ROWS: usize = 8;
/// Most panels of a tile.
pub(crate) const PANELS: usize = 4;
/// Floats from one row of a tile's result to the next.
pub(crate) const STRIDE: usize = PANELS * PANEL;

/// Where the rows of the first factor begin, for one run of the reduction.
pub(crate) type RowPointers = [*const f32; ROWS];

/// `tile[r][j] (+)= sum over runs, c of rows[run][r][c * step] * b[j / 16][run * depth + c][j % 16]`.
///
/// Arguments: first pointers of each run, how many runs, the depth of each, elements between neighbours of a row, the
/// panels, elements between panels, the tile of stride [`STRIDE`], whether to add to it, and what is multiplied next.
pub(crate) type MicroKernel = unsafe fn(*const RowPointers, usize, usize, usize, *const f32, usize, *mut f32, bool, Next);

/// Panels that are multiplied next: the second cache is asked for a line of each in every step of depth, where it is not null. Weights come from
/// memory while others are multiplied so; asked for between kernels, they would be waited for.
#[derive(Clone, Copy)]
pub(crate) struct Next([*const f32; 2]);

/// Numbers of weights that stay in the second cache, and need not be asked for.
pub(crate) const NEAR: usize = 320 << 10;

impl Next {
    pub(crate) const NONE: Self = Self([std::ptr::null(); 2]);

    /// What one of so many tiles asks for of `panels`, which lie so many elements apart, if any come next.
    pub(crate) fn of(first: Option<*const f32>, panels: usize, apart: usize, (t, count): (usize, usize)) -> Self {
        let panel = |p: usize| first.filter(|_| p < panels).map_or(std::ptr::null(), |first| first.wrapping_add(p * apart));
        // Where there is nothing left, what is there is asked for again.
        let one = panel(t);
        Self([one, if t + count < panels { panel(t + count) } else { one }])
    }

    fn is_none(self) -> bool {
        self.0[0].is_null()
    }
}

/// What becomes of sums that go to memory at once: a vector and a tensor added where they are not null, bounds, where the first row's columns
/// begin, and where rows do from there, and those of the tensor. The last panel has so many columns.
#[derive(Clone, Copy)]
pub(crate) struct Direct {
    pub(crate) last: usize,
    pub(crate) bias: *const f32,
    pub(crate) residual: *const f32,
    pub(crate) theirs: *const u32,
    pub(crate) bounds: (f32, f32),
    pub(crate) to: *mut f32,
    pub(crate) rows: *const u32,
}

impl Direct {
    /// The same from a later row on.
    #[inline(always)]
    pub(crate) fn at_row(&self, row: usize) -> Self {
        Self { rows: self.rows.wrapping_add(row), theirs: self.theirs.wrapping_add(row), ..*self }
    }

    /// The same from a later column on.
    #[inline(always)]
    pub(crate) fn at_column(&self, column: usize) -> Self {
        let bias = if self.bias.is_null() { self.bias } else { self.bias.wrapping_add(column) };
        let residual = if self.residual.is_null() { self.residual } else { self.residual.wrapping_add(column) };
        Self { bias, residual, to: self.to.wrapping_add(column), ..*self }
    }

    /// What sums begin with; what is added at their end comes while products are made.
    #[inline(always)]
    pub(crate) unsafe fn begin<V: Lanes, const M: usize, const N: usize>(&self, sums: &mut [[V; N]; M]) {
        unsafe {
            for j in 0..N {
                let first = if self.bias.is_null() { V::splat(0.0) } else { self.load::<V, N>(self.bias, j) };
                (0..M).for_each(|r| sums[r][j] = first);
            }
            for r in (0..M).filter(|_| !self.residual.is_null()) {
                let row = self.residual.add(*self.theirs.add(r) as usize);
                (0..N).for_each(|j| fetch::<L1>(row.wrapping_add(j * PANEL)));
            }
        }
    }

    /// The columns of a panel.
    #[inline(always)]
    unsafe fn load<V: Lanes, const N: usize>(&self, from: *const f32, panel: usize) -> V {
        let from = from.wrapping_add(panel * PANEL);
        unsafe { if panel + 1 < N || self.last == PANEL { V::load(from) } else { V::load_some(from, self.last) } }
    }

    /// Stores sums.
    #[inline(always)]
    pub(crate) unsafe fn end<V: Lanes, const M: usize, const N: usize>(&self, sums: [[V; N]; M]) {
        unsafe {
            let (adds, one) = (!self.residual.is_null(), V::splat(1.0));
            let (low, high) = (V::splat(self.bounds.0), V::splat(self.bounds.1));
            for r in 0..M {
                let row = self.to.add(*self.rows.add(r) as usize);
                let residual = if adds { self.residual.add(*self.theirs.add(r) as usize) } else { std::ptr::null() };
                for j in 0..N {
                    let sum = if adds { sums[r][j].mul_add(self.load::<V, N>(residual, j), one) } else { sums[r][j] };
                    let (sum, to) = (sum.clamp(low, high), row.add(j * PANEL));
                    if j + 1 < N || self.last == PANEL { sum.store(to) } else { sum.store_some(to, self.last) }
                }
            }
        }
    }
}

/// The same sums, stored as [`Direct`] tells; the arguments before it are those of a [`MicroKernel`].
pub(crate) type DirectKernel = unsafe fn(*const RowPointers, usize, usize, usize, *const f32, usize, Direct, Next);

/// With `HALF` the panels are of binary16, to which the pointer is then one.
#[inline(always)]
unsafe fn body<V: Lanes, const M: usize, const N: usize, const HALF: bool, const NEXT: bool>(
    runs: *const RowPointers,
    count: usize,
    depth: usize,
    step: usize,
    b: *const f32,
    panel: usize,
    tile: *mut f32,
    add: bool,
    next: Next,
) {
    unsafe {
        let mut sums = [[V::splat(0.0); N]; M];
        if add {
            for r in 0..M {
                for j in 0..N {
                    sums[r][j] = V::load(tile.add(r * STRIDE + j * PANEL));
                }
            }
        }
        let sums = products::<V, M, N, HALF, NEXT>(sums, runs, count, depth, step, (b, panel), next);
        for r in 0..M {
            for j in 0..N {
                sums[r][j].store(tile.add(r * STRIDE + j * PANEL));
            }
        }
    }
}

/// The kernels of a tile: into a tile, to memory at once, and by panels of binary16.
type Tile = (MicroKernel, DirectKernel, MicroKernel);

#[inline(always)]
unsafe fn direct<V: Lanes, const M: usize, const N: usize, const NEXT: bool>(
    runs: *const RowPointers,
    count: usize,
    depth: usize,
    step: usize,
    b: *const f32,
    panel: usize,
    to: Direct,
    next: Next,
) {
    unsafe {
        let mut sums = [[V::splat(0.0); N]; M];
        to.begin(&mut sums);
        to.end(products::<V, M, N, false, NEXT>(sums, runs, count, depth, step, (b, panel), next));
    }
}

/// The caches that [`fetch`] brings a line to.
pub(crate) const L1: i32 = 3;
pub(crate) const L2: i32 = 2;

/// Asks a cache for a line.
#[inline(always)]
pub(crate) fn fetch<const CACHE: i32>(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an address that is none changes nothing.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<CACHE>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// Sums with the products of all runs added.
#[inline(always)]
unsafe fn products<V: Lanes, const M: usize, const N: usize, const HALF: bool, const NEXT: bool>(
    mut sums: [[V; N]; M],
    runs: *const RowPointers,
    count: usize,
    depth: usize,
    step: usize,
    (b, panel): (*const f32, usize),
    next: Next,
) -> [[V; N]; M] {
    unsafe {
        let mut at_row = 0;
        for run in 0..count {
            let rows = &*runs.add(run);
            let mut a = [std::ptr::null::<f32>(); M];
            a.copy_from_slice(&rows[..M]);
            let mut at = 0;
            for _ in 0..depth {
                let mut columns = [V::splat(0.0); N];
                for j in 0..N {
                    let place = at_row + j * panel;
                    columns[j] = if HALF { V::load_halves(b.cast::<u16>().add(place)) } else { V::load(b.add(place)) };
                }
                for r in 0..M {
                    let x = V::splat(*a[r].add(at));
                    for j in 0..N {
                        sums[r][j] = sums[r][j].mul_add(x, columns[j]);
                    }
                }
                if NEXT {
                    next.0.into_iter().for_each(|from| fetch::<L2>(from.wrapping_add(at_row)));
                }
                at_row += PANEL;
                at += step;
            }
        }
    }
    sums
}

/// Compiles the kernel for one instruction set and lists it by rows and panels.
macro_rules! table {
    ($name:ident, $V:ty, $features:literal, $([$($m:literal),*] x $n:literal),*) => {
        fn $name(m: usize, n: usize) -> Option<Tile> {
            #[target_feature(enable = $features)]
            unsafe fn kernel<const M: usize, const N: usize>(r: *const RowPointers, c: usize, d: usize, s: usize, b: *const f32, p: usize, t: *mut f32, a: bool, x: Next) {
                match x.is_none() {
                    true => unsafe { body::<$V, M, N, false, false>(r, c, d, s, b, p, t, a, x) },
                    false => unsafe { body::<$V, M, N, false, true>(r, c, d, s, b, p, t, a, x) },
                }
            }
            #[target_feature(enable = $features)]
            unsafe fn halves<const M: usize, const N: usize>(r: *const RowPointers, c: usize, d: usize, s: usize, b: *const f32, p: usize, t: *mut f32, a: bool, x: Next) {
                unsafe { body::<$V, M, N, true, false>(r, c, d, s, b, p, t, a, x) }
            }
            #[target_feature(enable = $features)]
            unsafe fn at_once<const M: usize, const N: usize>(r: *const RowPointers, c: usize, d: usize, s: usize, b: *const f32, p: usize, t: Direct, x: Next) {
                match x.is_none() {
                    true => unsafe { direct::<$V, M, N, false>(r, c, d, s, b, p, t, x) },
                    false => unsafe { direct::<$V, M, N, true>(r, c, d, s, b, p, t, x) },
                }
            }
            match (m, n) {
                $($(($m, $n) => Some((kernel::<$m, $n> as MicroKernel, at_once::<$m, $n> as DirectKernel, halves::<$m, $n> as MicroKernel)),)*)*
                _ => None,
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
table!(avx512, super::simd::x86::Avx512, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma",
    [1, 2, 3, 4, 5, 6, 7, 8] x 1, [1, 2, 3, 4, 5, 6, 7, 8] x 2, [1, 2, 3, 4, 5, 6, 7, 8] x 3, [1, 2, 3, 4, 5, 6] x 4);
#[cfg(target_arch = "x86_64")]
table!(avx2, super::simd::x86::Avx2, "avx2,fma,f16c", [1, 2, 3, 4, 5, 6] x 1, [1, 2] x 2, [1] x 3, [1] x 4);
#[cfg(target_arch = "aarch64")]
table!(neon, super::simd::arm::Neon, "neon", [1, 2, 3, 4, 5, 6] x 1);

fn portable(m: usize, n: usize) -> Option<Tile> {
    unsafe fn kernel<const M: usize, const HALF: bool>(
        r: *const RowPointers,
        c: usize,
        d: usize,
        s: usize,
        b: *const f32,
        p: usize,
        t: *mut f32,
        a: bool,
        x: Next,
    ) {
        unsafe { body::<Plain, M, 1, HALF, false>(r, c, d, s, b, p, t, a, x) }
    }
    unsafe fn at_once<const M: usize>(r: *const RowPointers, c: usize, d: usize, s: usize, b: *const f32, p: usize, t: Direct, x: Next) {
        unsafe { direct::<Plain, M, 1, false>(r, c, d, s, b, p, t, x) }
    }
    match (m, n) {
        (1, 1) => Some((kernel::<1, false>, at_once::<1>, kernel::<1, true>)),
        (2, 1) => Some((kernel::<2, false>, at_once::<2>, kernel::<2, true>)),
        (3, 1) => Some((kernel::<3, false>, at_once::<3>, kernel::<3, true>)),
        (4, 1) => Some((kernel::<4, false>, at_once::<4>, kernel::<4, true>)),
        _ => None,
    }
}

unsafe fn nothing(_: *const RowPointers, _: usize, _: usize, _: usize, _: *const f32, _: usize, _: *mut f32, _: bool, _: Next) {}

/// The kernels of this machine.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    find: fn(usize, usize) -> Option<Tile>,
    /// Panels of a tile, and most of them for a few rows.
    pub(crate) panels: usize,
    pub(crate) widest: usize,
    rows: [usize; PANELS],
}

impl Kernels {
    /// For this machine.
    pub(crate) fn get() -> Self {
        match isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self { find: avx512, panels: 4, widest: 4, rows: [8, 8, 8, 6] },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self { find: avx2, panels: 1, widest: 4, rows: [6, 2, 1, 1] },
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Self { find: neon, panels: 1, widest: 1, rows: [6; PANELS] },
            Isa::Portable => Self { find: portable, panels: 1, widest: 1, rows: [4; PANELS] },
        }
    }

    /// Panels of a tile for so many rows: where they are few, more of them keep the sums from waiting for each other.
    pub(crate) fn panels_for(&self, m: usize) -> usize {
        (self.panels..=self.widest).rev().find(|&n| m <= self.rows[n - 1]).unwrap_or(self.panels)
    }

    /// Most rows of a tile of `n` panels.
    pub(crate) fn rows(&self, n: usize) -> usize {
        self.rows[n - 1]
    }

    /// The kernel for `m` rows and `n` panels, which must be within the limits.
    pub(crate) fn kernel(&self, m: usize, n: usize) -> MicroKernel {
        debug_assert!((self.find)(m, n).is_some(), "no kernel for {m} rows and {n} panels");
        (self.find)(m, n).map_or(nothing, |k| k.0)
    }

    /// The kernel for panels of binary16.
    pub(crate) fn halves(&self, m: usize, n: usize) -> MicroKernel {
        (self.find)(m, n).map_or(nothing, |k| k.2)
    }

    /// The kernel that stores at once, for the same.
    pub(crate) fn direct(&self, m: usize, n: usize) -> DirectKernel {
        unsafe fn nothing(_: *const RowPointers, _: usize, _: usize, _: usize, _: *const f32, _: usize, _: Direct, _: Next) {}
        (self.find)(m, n).map_or(nothing, |k| k.1)
    }
}
