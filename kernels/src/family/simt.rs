//! Contractions on FP32 cores: tiles of both factors stream through shared memory in stages, each thread keeps a small
//! rectangle of sums. Products, convolutions and their transposes are one family (implicit GEMM); what lies outside reads as
//! zero. The depth may be split between blocks, whose partial sums the last of them adds in a fixed order.

use super::Unsupported;
use super::affine::small;
use super::blocks::{Depth, Panels, Place, Tiling};
use super::factors::{Size, sources};
use super::output::{self, Rectangle};
use super::pipeline::Readers;
use super::tile::{Along, Layout};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Kernel, Op, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::problem::{Contraction, Roles};
use wpk_plan::{DType, WeightLayout};

schedule! {
    /// How a contraction is computed on FP32 cores.
    Simt(Contraction => Facts) = "simt" {
        /// Rows of a block's tile.
        bm: [16, 32, 64, 128],
        /// Columns of a block's tile.
        bn: [32, 64, 128],
        /// Depth of a tile.
        bk: [8, 16, 32],
        /// Rows of a thread.
        tm: [1, 2, 4, 8],
        /// Columns of a thread.
        tn: [4, 8],
        /// Tiles in shared memory at once.
        stages: [2, 3, 4],
        /// Blocks that share the depth.
        split: [1, 2, 3, 4, 6, 8, 12, 16, 24, 32],
    }
}

/// What a schedule of a contraction depends on.
pub struct Facts {
    size: Size,
    /// Whether all offsets fit registers of 32 bits.
    small: bool,
    /// How the factors are copied, the second as it is and in panels.
    directions: [(Along, u32); 3],
    bytes: f64,
    arch: Arch,
}

impl Facts {
    fn of(c: &Contraction, arch: &Arch) -> Self {
        let points = c.space.iter().try_fold(1usize, |n, &d| n.checked_mul(d).filter(|&n| n < 1 << 40));
        let elements = c.a.view().len() + c.b.view().len() + c.out.view.len();
        let [a, b] = sources(c, WeightLayout::Dense);
        let panels = &sources(c, WeightLayout::Panels16)[1];
        Self {
            size: Size::of(&c.roles()),
            small: small(c) && points.is_some() && c.roles().packed_len() < 1 << 30,
            directions: [a.direction(), b.direction(), panels.direction()],
            bytes: 4.0 * elements as f64,
            arch: *arch,
        }
    }
}

impl Simt {
    fn threads(&self) -> u32 {
        self.bm / self.tm * (self.bn / self.tn)
    }

    fn registers(&self) -> u32 {
        48 + self.tm * self.tn + 4 * self.tm + 4 * self.tn
    }

    /// Tiles of the depth that each block takes.
    fn rounds(&self, k: u32) -> u32 {
        k.div_ceil(self.bk).div_ceil(self.split)
    }

    fn fits(&self, f: &Facts) -> bool {
        let threads = self.threads();
        let k = f.size.k;
        // Every block has tiles; the last may have fewer.
        let shared_out = self.split == 1 || self.rounds(k) * self.bk * (self.split - 1) < k && self.rounds(k) >= 2;
        let layouts = [
            Layout::new(f.directions[0], self.bm, self.bk),
            Layout::new(f.directions[1], self.bn, self.bk),
            Layout::new(f.directions[2], self.bn, self.bk),
        ];
        let stage = layouts[0].bytes() + layouts[1].bytes().max(layouts[2].bytes());
        let tiles = u64::from(f.size.m.div_ceil(self.bm)) * u64::from(f.size.n.div_ceil(self.bn));
        f.small
            && (64..=512).contains(&threads)
            && threads.is_multiple_of(32)
            && shared_out
            && self.registers() * threads <= 65536
            && layouts.iter().all(|l| l.fits(threads))
            && (self.stages * stage + 16) as usize <= f.arch.shared
            && tiles * u64::from(f.size.batch * self.split) < 1 << 24
    }

    /// Waves of blocks, each as long as the slower of its arithmetic and the latency of its rounds. Measured times are about
    /// 1.8 times as long, which counts beside other families.
    fn estimate(&self, f: &Facts) -> f64 {
        let tiles = f.size.batch * f.size.m.div_ceil(self.bm) * f.size.n.div_ceil(self.bn);
        let blocks = f64::from(tiles * self.split);
        let stage = (self.bm * (self.bk + 4) + self.bn * self.bk) * 4;
        let resident = f64::from(f.arch.resident(self.threads(), self.registers(), self.stages * stage));
        let rounds = f64::from(self.rounds(f.size.k));
        // Cycles of one tile's arithmetic with the multiprocessor to itself: 128 lanes, less what reading fragments costs.
        let reads = f64::from(self.tm + self.tn) / f64::from(self.tm * self.tn);
        let work = f64::from(self.bm * self.bn * self.bk) / 128.0 * (1.0 + reads) + 24.0;
        let latency = 220.0 + 500.0 / f64::from(self.stages);
        let alone = work * f64::from(128 / self.threads().min(128));
        let one = |together: f64| rounds * (together * work).max(latency + alone) + 1400.0;
        let mut cycles = f.arch.waves((blocks, 1), resident, one);
        if self.split > 1 {
            cycles += 1800.0 + f64::from(self.bm * self.bn * 4 * self.split) / 40.0;
        }
        (1.8 * cycles / 1.7).max(f.bytes / f.arch.bandwidth)
    }
}

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn simt(c: &Contraction, layout: WeightLayout, s: &Simt, arch: &Arch) -> Result<Kernel, Unsupported> {
    let known = matches!(c.dtype, DType::F32 | DType::F16 | DType::BF16) && c.sum.is_float();
    if !known || !s.legal(&Facts::of(c, arch)) {
        return Err(Unsupported(format!("{s} does not fit a contraction of {} over {:?}", c.dtype, c.space)));
    }
    let roles = c.roles();
    let size = Size::of(&roles);
    let sources = sources(c, layout);
    let layouts = [Layout::new(sources[0].direction(), s.bm, s.bk), Layout::new(sources[1].direction(), s.bn, s.bk)];
    let threads = s.threads();
    if !layouts.iter().all(|l| l.fits(threads)) {
        return Err(Unsupported(format!("{s} does not share out the copies of {:?}", c.space)));
    }
    let stage = layouts[0].bytes() + layouts[1].bytes();
    let (extents, shared) = ([s.bm, s.bn], s.stages * stage);
    let tiling = Tiling {
        size,
        layouts: &layouts,
        extents,
        split: s.split,
        threads,
        shared,
        cluster: 1,
        copied: 2,
        panels: Panels::ONE,
        shares: None,
        by_lane: None,
    };
    let mut k = Writer::for_arch(arch);
    k.fast = c.out.dtype.bytes() == 2;
    let place = tiling.place(&mut k, &sources, arch);
    let Place { thread, batch, starts, firsts, .. } = place;
    let (ty, tx) = k.div_rem(thread, s.bn / s.tn);
    let lines = [layouts[0].first_line(&mut k, ty, s.tm), layouts[1].first_line(&mut k, tx, s.tn)];
    let from = [layouts[0].address(&mut k, starts[0], lines[0]), layouts[1].address(&mut k, starts[1], lines[1])];
    let zero = k.float(0.0, Ty::F32);
    let sums: Vec<Val> = (0..s.tm * s.tn).map(|_| k.variable(zero)).collect();

    let depth =
        Depth { stages: s.stages, elements: s.bk, rounds: s.rounds(size.k), total: size.k, rounded: false, readers: Readers::Warps };
    let first = place.first(&mut k, &depth);
    place.stream(&mut k, &depth, (first, s.split), (layout, None), |k, _, reading| {
        let stage = [k.add(from[0], reading), k.add(from[1], reading)];
        for depth in (0..s.bk).step_by(4) {
            let a = layouts[0].read(k, stage[0], depth, s.tm);
            let b = layouts[1].read(k, stage[1], depth, s.tn);
            for (a, b) in a.iter().zip(&b) {
                for (i, &sum) in sums.iter().enumerate() {
                    k.update(sum, Op::Fma, &[a[i / s.tn as usize], b[i % s.tn as usize], sum]);
                }
            }
        }
    });
    let grid = Grid { c, roles: &roles, s, layouts, lines, firsts, batch };
    let own = tiling.partial(&place, c.extras.len());
    own.finish(k, "simt", &sums, |k, sums| grid.store(k, sums))
}

/// Where a thread's sums belong.
struct Grid<'a> {
    c: &'a Contraction,
    roles: &'a Roles,
    s: &'a Simt,
    layouts: [Layout; 2],
    lines: [Val; 2],
    firsts: [Val; 2],
    batch: Val,
}

impl Grid<'_> {
    fn store(&self, k: &mut Writer, sums: &[Val]) -> Result<(), Unsupported> {
        let (s, size) = (self.s, Size::of(self.roles));
        let line = |k: &mut Writer, side: usize, i: u32, n: u32| {
            let first = k.add(self.firsts[side], self.lines[side]);
            k.plus(first, i64::from(self.layouts[side].line(i, n)))
        };
        let group = if self.layouts[1].along == Along::Lines { s.tn.min(4) } else { 1 };
        let rectangle = Rectangle {
            ahead: usize::from(s.tm <= 8),
            batch: self.batch,
            rows: (0..s.tm).map(|i| line(k, 0, i, s.tm)).collect(),
            columns: (0..s.tn).step_by(group as usize).map(|j| line(k, 1, j, s.tn)).collect(),
            group: group as usize,
            whole: (size.m.is_multiple_of(s.bm), size.n.is_multiple_of(s.bn)),
        };
        let rows: Vec<Vec<Val>> = sums.chunks(s.tn as usize).map(<[Val]>::to_vec).collect();
        output::store(k, self.c, self.roles, &rectangle, &rows)
    }
}
