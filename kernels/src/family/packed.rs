//! Convolutions of few channels, as the first layers of models are, on tensor cores: a block copies what the windows of its tile read of an image
//! once, pixel behind pixel, so that a row of a window, all its channels side by side, is one piece of the depth, and neighbouring windows begin
//! 16 bytes or more apart.

use super::Unsupported;
use super::blocks::by_lane;
use super::factors::sources;
use super::fragments::{Fragments, Side};
use super::grid::Grid;
use super::mma::Product;
use super::overlap::{Facts, Windows};
use super::partial::Partial;
use super::patches::{Patches, Pixels};
use super::products::{Mode, Words, multiply};
use super::tile::{Along, Corner, Layout, Loader};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Kernel, Op, Special, Ty};
use crate::schedule::{Schedule, schedule};

schedule! {
    /// How a convolution of few channels is computed.
    Packed(Product => Facts) = "packed" {
        /// Rows of windows of a block's tile.
        rows: [1, 2, 4, 7, 8, 14, 16],
        /// Columns of windows.
        columns: [4, 7, 8, 14, 16, 28, 32],
        /// Columns of the product.
        bn: [16, 32, 64, 128],
        /// Windows of a warp.
        wm: [16, 32, 64],
        /// Columns of a warp.
        wn: [16, 32, 64],
    }
}

/// Bytes of depth of a product.
const STEP: u32 = 32;
/// Products of a warp that are written out.
const MOST: u32 = 2048;

impl Packed {
    fn bm(&self) -> u32 {
        (self.rows * self.columns).next_multiple_of(self.wm)
    }

    fn warps(&self) -> u32 {
        (self.bm() / self.wm) * (self.bn / self.wn)
    }

    /// Elements of depth of a piece, as they are multiplied.
    fn depth(f: &Facts, w: &Windows) -> u32 {
        w.run.next_multiple_of(STEP / f.stored())
    }

    /// Steps of the depth.
    fn steps(f: &Facts, w: &Windows) -> u32 {
        w.taps.len() as u32 * Self::depth(f, w) * f.stored() / STEP
    }

    /// What a block reads of an image.
    fn patches(&self, f: &Facts, w: &Windows) -> Patches {
        let ([sy, sx], channels) = (w.image.steps, w.image.channels);
        let extents = [(self.rows - 1) * sy + w.reach[0] + 1, (self.columns - 1) * sx + Self::depth(f, w) / channels];
        let room = (f.of.arch.shared as u32).saturating_sub(self.layout(f, w).bytes() + 16);
        Patches::new(extents, (channels, 1), (f.stored(), 1), (Pixels::Packed, 32 * self.warps())).within(room)
    }

    /// Of the columns, piece by piece.
    fn layout(&self, f: &Facts, w: &Windows) -> Layout {
        let vector = (16 / f.stored()).min(1 << w.run.trailing_zeros());
        Layout::for_matrices((Along::Depth, vector), w.taps.len() as u32 * self.bn, Self::depth(f, w), f.stored())
    }

    fn shared(&self, f: &Facts, w: &Windows) -> u32 {
        self.layout(f, w).bytes() + self.patches(f, w).bytes()
    }

    /// Tiles down, across and of columns of the product.
    fn tiles(&self, f: &Facts, w: &Windows) -> [u32; 3] {
        w.tiles([self.rows, self.columns], (f.of.size.n, self.bn))
    }

    fn registers(&self, f: &Facts, w: &Windows) -> u32 {
        let (sums, words) = (self.wm * self.wn / 32, self.wm / 4 + 4);
        56 + sums + words + self.patches(f, w).copies()
    }

    fn fits(&self, f: &Facts) -> bool {
        let overlap = |w: &Windows| (0..2).all(|side| w.image.steps[side] <= w.reach[side]);
        let Some(w) = f.windows.as_ref().filter(|w| w.packed && overlap(w) && f.readable() && f.of.mode != Some(Mode::Parts)) else {
            return false;
        };
        let sized = (0..2).all(|side| [self.rows, self.columns][side] < 2 * w.counts[side]);
        let aligned = (w.image.channels * f.stored() * w.image.steps[1]).is_multiple_of(16);
        if !sized || !aligned || self.wn > self.bn || self.warps() > 16 {
            return false;
        }
        let (threads, registers) = (32 * self.warps(), self.registers(f, w));
        let blocks = self.tiles(f, w).iter().map(|&n| u64::from(n)).product::<u64>() * u64::from(w.images);
        Self::steps(f, w) * (self.wm / 16) * (self.wn / 8) <= MOST
            && self.patches(f, w).fits()
            && self.layout(f, w).fits(threads)
            && registers <= 255
            && registers * threads <= 65536
            && (self.shared(f, w) + 16) as usize <= f.of.arch.shared
            && blocks < 1 << 24
    }

    /// What tensor cores take, and warps to read matrices of shared memory; fitted to measured landscapes.
    fn estimate(&self, f: &Facts) -> f64 {
        let Some(w) = &f.windows else { return f64::INFINITY };
        let resident = f64::from(f.of.arch.resident(32 * self.warps(), self.registers(f, w), self.shared(f, w)));
        let steps = f64::from(self.warps() * Self::steps(f, w));
        let products = f64::from((self.wm / 16) * (self.wn / 8) * f.stored() / 2) * 2048.0 / f.of.arch.matrix;
        let reads = 4.0 * f64::from(self.wm / 16 + self.wn / 16);
        let epilogue = f.of.epilogue / 4.0 * f64::from(self.bm() * self.bn) / 32.0;
        // Copies of a thread one after another: of columns, and of pixels.
        let (layout, threads) = (self.layout(f, w), 32 * self.warps());
        let columns = f64::from((layout.lines * layout.depth / layout.vector).div_ceil(threads));
        let pixels = f64::from(self.patches(f, w).copies());
        let alone = 2600.0 + 40.0 * columns + 8.0 * pixels;
        let wave = |blocks: f64| alone + blocks * (steps * (0.432 * products + 1.107 * reads) + epilogue);
        let tiles = self.tiles(f, w).iter().product::<u32>() * w.images;
        f.of.time((tiles, 1), (resident, false), self.bm() * self.bn, wave)
    }
}

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn packed(p: &Product, s: &Packed, arch: &Arch) -> Result<Kernel, Unsupported> {
    let c = &p.contraction;
    let facts = Facts::of(p, arch);
    let (Some(w), Some(mode)) = (facts.windows.as_ref().filter(|_| s.legal(&facts)), facts.of.mode) else {
        return Err(Unsupported(format!("{s} does not fit a contraction of {} over {:?}", c.dtype, c.space)));
    };
    let (roles, size) = (c.roles(), facts.of.size);
    let mut k = Writer::for_arch(arch);
    k.fast = c.out.dtype.bytes() == 2;
    let weights = w.columns(&sources(c, p.layout)[1], (size.n, 1), (s.bn, 1));
    let (threads, layout, patches) = (32 * s.warps(), s.layout(&facts, w), s.patches(&facts, w));
    let by_lane = by_lane(c.out.dtype, &size, layout.along, s.wn);

    let tile = k.op(Ty::U32, Op::Special(Special::Block), &[]);
    let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
    let tiles = s.tiles(&facts, w);
    let (beside, patch) = w.patch(&mut k, tile, tiles, [s.rows, s.columns]);
    let column = k.scaled(beside, i64::from(s.bn));
    let start = k.shared(s.shared(&facts, w));
    let pixels = k.plus(start, i64::from(layout.bytes()));

    let none = k.int(0, Ty::U32);
    let place = Corner { start, batch: beside, first: none, apart: layout.lines, by_lane };
    let loader = Loader::new(&mut k, &weights, layout, arch, (thread, threads), place);
    let reads = patches.begin(&mut k, (c, mode), &w.image, thread, (patch.image, patch.corner, none), pixels);
    k.constant_param(1);
    loader.copy(&mut k, none, none, true);
    k.wait_dependencies();
    reads.copy(&mut k, 0);
    k.commit_copies();

    let (warp, lane) = k.div_rem(thread, 32);
    let (warp_m, warp_n) = k.div_rem(warp, s.bn / s.wn);
    let lines = [k.scaled(warp_m, i64::from(s.wm)), k.scaled(warp_n, i64::from(s.wn))];
    let rows = patches.rows(&mut k, [s.rows, s.columns], w.image.steps, (lane, lines[0], s.wm), pixels);
    let columns = Fragments::new(&mut k, layout, Side::Columns, (lane, lines[1], s.wn), start, false);
    let zero = k.float(0.0, Ty::F32);
    let sums: Vec<Val> = (0..s.wm * s.wn / 32).map(|_| k.variable(zero)).collect();
    k.wait_copies(0);
    k.barrier();
    let bases = columns.in_stage(&mut k, none);
    let steps = Packed::depth(&facts, w) * facts.stored() / STEP;
    for ((tap, &pixel), step) in (0..).zip(&w.taps).flat_map(|tap| (0..steps).map(move |step| (tap, step))) {
        let rows: Vec<Words> = (0..s.wm / 16).map(|block| rows.read(&mut k, block, (pixel, step), w.run * facts.stored())).collect();
        for block in 0..s.wn / 16 {
            let words: Words = vec![columns.read(&mut k, &bases, step, tap * s.bn / 16 + block)];
            multiply(&mut k, mode, &rows, &words, (block, s.wn / 16), &sums);
        }
    }

    let bm = s.bm();
    let whole = w.counts[0].is_multiple_of(s.rows) && w.counts[1].is_multiple_of(s.columns) && s.rows * s.columns == bm;
    let patch = Some(patch);
    let tiles = tiles.iter().product::<u32>() * w.images;
    let partial = Partial { split: 1, threads, operands: 3 + c.extras.len() as u32, tiles, tile, part: none, thread, cluster: None };
    let grid = Grid {
        c,
        roles: &roles,
        rows: s.wm,
        columns: s.wn,
        apart: 16,
        firsts: [lines[0], k.add(column, lines[1])],
        patch,
        batch: none,
        lane,
        by_lane,
        ahead: usize::from(s.wm <= 32),
        whole: (whole, size.n.is_multiple_of(s.bn)),
    };
    grid.finish(k, "packed", &partial, &sums)
}
