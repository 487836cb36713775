//! Contractions in bfloat16 with sums in `f32`, by instructions that multiply pairs where the machine has them: half the weights to read,
//! twice the products at a time. The first factor is rounded tile by tile as it is read.

use super::contraction::{CHUNK, OUTSIDE, row_table, runs};
use super::epilogue::Epilogue;
use super::isa::dispatch;
use super::microkernel::{PANELS, ROWS, STRIDE};
use super::{Args, Bound, Cx, part};
use std::ops::Range;
use wpk_plan::number::bf16;
use wpk_plan::problem::{Contraction, PANEL};

/// Rows at once, by panels.
const AT_ONCE: [usize; PANELS] = [8, 8, 8, 6];

struct Pairs {
    batch: Vec<i64>,
    m: usize,
    n: usize,
    k: usize,
    taps: usize,
    /// `offset[row][tap]`, then contiguous.
    table: Vec<i32>,
    epilogue: Epilogue,
    kernels: Kernels,
}

/// For a contraction whose second factor lies in panels of pairs.
pub(super) fn bind(c: &Contraction) -> Option<Box<dyn Bound>> {
    let roles = c.roles();
    let (taps, depth) = runs(c, &roles);
    let (m, n, k) = (roles.count(&roles.m), roles.count(&roles.n), roles.count(&roles.k()));
    let batch = roles.offsets(&c.a, &roles.batch)?;
    let table = row_table(c, &roles.m, &taps)?;
    let epilogue = Epilogue::new(c, &roles.batch, &roles.m, &roles.n)?;
    depth
        .is_multiple_of(2)
        .then(|| Box::new(Pairs { batch, m, n, k, taps: k / depth, table, epilogue, kernels: kernels() }) as Box<dyn Bound>)
}

impl Bound for Pairs {
    fn scratch(&self) -> (usize, usize) {
        (0, (ROWS * self.k * 2).next_multiple_of(64) + ROWS * STRIDE * 4 + self.epilogue.scratch())
    }

    unsafe fn run(&self, args: &[*mut u8], cx: &Cx<'_>) {
        let panels = self.n.div_ceil(PANEL);
        let groups = panels.div_ceil(PANELS);
        let rows = AT_ONCE[panels.div_ceil(groups) - 1];
        let mut chunks = self.m.div_ceil(CHUNK / rows * rows);
        let enough = if cx.pool.threads() == 1 { 1 } else { 4 * cx.pool.threads() };
        while self.batch.len() * groups * chunks < enough && chunks * rows < self.m {
            chunks += 1;
        }
        let arguments = Args(args);
        cx.pool.run(self.batch.len() * groups * chunks, &|task, thread| unsafe {
            let (b, chunk, group) = (task / (groups * chunks), task / groups % chunks, task % groups);
            let tiles = part(self.m.div_ceil(rows), chunks, chunk);
            let range = tiles.start * rows..(tiles.end * rows).min(self.m);
            self.chunk(arguments.get(), b, range, part(panels, groups, group), cx.own(thread));
        });
    }
}

impl Pairs {
    /// A range of rows times a range of panels.
    unsafe fn chunk(&self, args: &[*mut u8], batch: usize, range: Range<usize>, panels: Range<usize>, own: *mut u8) {
        let rounded = own.cast::<u16>();
        let tile = own.wrapping_add((ROWS * self.k * 2).next_multiple_of(64)).cast::<f32>();
        let scratch = tile.wrapping_add(ROWS * STRIDE).cast::<u8>();
        let a = args[0].cast::<f32>().wrapping_offset(self.batch[batch] as isize).cast_const();
        let all = self.n.div_ceil(PANEL);
        let b = args[1].cast::<u16>().wrapping_add((batch * all + panels.start) * self.k * PANEL).cast_const();
        let (width, column, depth) = (panels.len(), panels.start * PANEL, self.k / self.taps.max(1));
        let columns = (self.n - column).min(width * PANEL);
        let count = range.len().div_ceil(AT_ONCE[width - 1]);
        for rows in (0..count).map(|t| part(range.len(), count, t)) {
            let (row, height) = (range.start + rows.start, rows.len());
            for r in 0..height {
                for tap in 0..self.taps {
                    let to = rounded.wrapping_add(r * self.k + tap * depth);
                    match self.table[(row + r) * self.taps + tap] {
                        OUTSIDE => unsafe { std::ptr::write_bytes(to, 0, depth) },
                        offset => unsafe { (self.kernels.round)(a.wrapping_offset(offset as isize), depth, to) },
                    }
                }
            }
            unsafe {
                (self.kernels.multiply)(rounded, self.k, height, b, width, tile);
                self.epilogue.store(tile, batch, row, height, column, columns, args, scratch);
            }
        }
    }
}

/// What is compiled for an instruction set.
#[derive(Clone, Copy)]
struct Kernels {
    /// Rounds neighbours.
    round: unsafe fn(*const f32, usize, *mut u16),
    /// `tile[r][j] = sum over k of a[r][k] * b[j / 16][k / 2][j % 16][k % 2]`: rows, their length, how many, panels, how many, tile.
    multiply: unsafe fn(*const u16, usize, usize, *const u16, usize, *mut f32),
}

fn kernels() -> Kernels {
    #[cfg(target_arch = "x86_64")]
    if super::isa::isa() == super::isa::Isa::Avx512 && is_x86_feature_detected!("avx512bf16") {
        return Kernels { round: native::round, multiply: native::multiply };
    }
    Kernels { round, multiply }
}

dispatch! {
    unsafe fn round(from: *const f32, n: usize, to: *mut u16) = round_body
}

#[inline(always)]
unsafe fn round_body(from: *const f32, n: usize, to: *mut u16) {
    (0..n).for_each(|i| unsafe { to.add(i).write(bf16(*from.add(i))) });
}

dispatch! {
    unsafe fn multiply(a: *const u16, k: usize, rows: usize, b: *const u16, panels: usize, tile: *mut f32) = multiply_body
}

#[inline(always)]
unsafe fn multiply_body(a: *const u16, k: usize, rows: usize, b: *const u16, panels: usize, tile: *mut f32) {
    let wide = |x: u16| f32::from_bits(u32::from(x) << 16);
    for r in 0..rows {
        for panel in 0..panels {
            let b = b.wrapping_add(panel * k * PANEL);
            let mut sums = [0.0f32; PANEL];
            for pair in 0..k / 2 {
                unsafe {
                    let x = a.add(r * k + 2 * pair);
                    let (x, y) = (wide(*x), wide(*x.add(1)));
                    let columns = b.add(pair * 2 * PANEL).cast::<[[u16; 2]; PANEL]>().read_unaligned();
                    for l in 0..PANEL {
                        sums[l] += x * wide(columns[l][0]) + y * wide(columns[l][1]);
                    }
                }
            }
            unsafe { tile.add(r * STRIDE + panel * PANEL).cast::<[f32; PANEL]>().write_unaligned(sums) }
        }
    }
}

/// With AVX512_BF16.
#[cfg(target_arch = "x86_64")]
mod native {
    use super::{PANEL, STRIDE, bf16};
    use std::arch::x86_64::{
        __m256i, __m512, __m512bh, __m512i, _mm256_storeu_si256, _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    use std::mem::transmute;

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")]
    pub(super) unsafe fn round(from: *const f32, n: usize, to: *mut u16) {
        let whole = n / PANEL * PANEL;
        for i in (0..whole).step_by(PANEL) {
            unsafe {
                let rounded: __m256i = transmute(_mm512_cvtneps_pbh(_mm512_loadu_ps(from.add(i))));
                _mm256_storeu_si256(to.add(i).cast(), rounded);
            }
        }
        (whole..n).for_each(|i| unsafe { to.add(i).write(bf16(*from.add(i))) });
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")]
    unsafe fn body<const M: usize, const N: usize>(a: *const u16, k: usize, b: *const u16, tile: *mut f32) {
        unsafe {
            let mut sums: [[__m512; N]; M] = [[_mm512_setzero_ps(); N]; M];
            for pair in 0..k / 2 {
                let mut columns: [__m512bh; N] = [transmute::<__m512i, __m512bh>(_mm512_set1_epi32(0)); N];
                for j in 0..N {
                    columns[j] = transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b.add((j * k + 2 * pair) * PANEL).cast()));
                }
                for r in 0..M {
                    let x: __m512bh = transmute(_mm512_set1_epi32(a.add(r * k + 2 * pair).cast::<i32>().read_unaligned()));
                    for j in 0..N {
                        sums[r][j] = _mm512_dpbf16_ps(sums[r][j], columns[j], x);
                    }
                }
            }
            for r in 0..M {
                for j in 0..N {
                    _mm512_storeu_ps(tile.add(r * STRIDE + j * PANEL), sums[r][j]);
                }
            }
        }
    }

    pub(super) unsafe fn multiply(a: *const u16, k: usize, rows: usize, b: *const u16, panels: usize, tile: *mut f32) {
        macro_rules! sizes {
            ($([$($m:literal)*] $n:literal),*) => {
                match (rows, panels) {
                    $($(($m, $n) => unsafe { body::<$m, $n>(a, k, b, tile) },)*)*
                    _ => debug_assert!(false, "no kernel for {rows} rows and {panels} panels"),
                }
            };
        }
        sizes!([1 2 3 4 5 6 7 8] 1, [1 2 3 4 5 6 7 8] 2, [1 2 3 4 5 6 7 8] 3, [1 2 3 4 5 6] 4);
    }
}
