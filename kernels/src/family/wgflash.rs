//! Attention by products of warpgroups (`wgmma`, on sm_90a): a warpgroup multiplies 64 queries by a tile of keys, makes weights of the scores
//! in registers, and multiplies the values by them, which lie across the depth. Warpgroups of a block share keys and values, and take turns by
//! themselves: one makes weights while the tensor cores multiply for another (Shah et al., FlashAttention-3, 2024).

use super::Unsupported;
use super::attention::{Facts, halves, sources};
use super::exponents::Exponents;
use super::online_softmax::{Place, State};
use super::pipeline::{Pipeline, Readers};
use super::products::Mode;
use super::tile::{Along, Corner, Layout, Loader};
use crate::arch::Arch;
use crate::dsl::{GroupMma, Val, Writer};
use crate::layout::{PANEL, ROW, Rows, descriptor};
use crate::ptx::{Kernel, Op, Special, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::problem::Attention;

schedule! {
    /// How attention is computed by warpgroups.
    WgFlash(Attention => Facts) = "wgflash" {
        /// Warpgroups, of 64 queries each.
        groups: [1, 2, 3],
        /// Keys of a tile.
        keys: [32, 64, 128],
        /// Tiles in shared memory at once; two of them are read.
        stages: [3, 4],
    }
}

/// Queries of a warpgroup.
const QUERIES: u32 = 64;
/// Elements of depth of a product.
const STEP: u32 = 16;

/// Rows of shared memory for elements, or keys, side by side: panels of so many elements.
fn panels(elements: u32) -> u32 {
    elements.div_ceil(PANEL)
}

impl WgFlash {
    fn threads(&self) -> u32 {
        2 * QUERIES * self.groups
    }

    /// Registers of a thread, as `ptxas` was seen to take them at most.
    fn registers(&self, f: &Facts) -> u32 {
        56 + 3 * self.keys / 4 + f.width / 2
    }

    /// Bytes of a tile of keys, and of one of values.
    fn tiles(&self, f: &Facts) -> [u32; 2] {
        [f.depth, f.width].map(|elements| panels(elements) * self.keys * ROW)
    }

    /// Bytes of the queries.
    fn queries(&self, f: &Facts) -> u32 {
        panels(f.depth) * QUERIES * self.groups * ROW
    }

    /// How a panel of queries, keys and values is copied.
    fn layouts(&self, f: &Facts) -> [Layout; 3] {
        let rows = Rows::for_matrices(ROW);
        let layout = |along, vector, lines, depth| Layout { along, vector, lines, depth, element: f.element, rows };
        [
            layout(Along::Depth, f.vectors[0], QUERIES * self.groups, PANEL.min(f.depth)),
            layout(Along::Lines, f.vectors[1], PANEL.min(f.depth), self.keys),
            layout(Along::Lines, f.vectors[2], PANEL.min(f.width), self.keys),
        ]
    }

    fn shared(&self, f: &Facts) -> u32 {
        self.queries(f) + self.stages * self.tiles(f).iter().sum::<u32>()
    }

    fn fits(&self, f: &Facts) -> bool {
        let reads = f.arch.groups > 0.0 && matches!(f.mode, Some(Mode::Half(_)));
        // A last panel holds as much as the others.
        let even = [f.depth, f.width].iter().all(|&n| n <= PANEL || n.is_multiple_of(PANEL));
        let registers = self.registers(f);
        // Narrow heads gain nothing, and `ptxas` has serialized products for some.
        reads
            && f.depth.min(f.width) >= 32
            && even
            && f.small
            && registers <= 255
            && registers * self.threads() <= 65536
            && (self.groups == 1 || QUERIES * (self.groups - 1) < f.queries)
            && (self.keys == 32 || self.keys / 2 < f.keys)
            && self.layouts(f).iter().all(|l| l.fits(self.threads()))
            && self.shared(f) as usize <= f.arch.shared
            && u64::from(f.heads) * u64::from(f.queries.div_ceil(QUERIES * self.groups)) < 1 << 24
    }

    /// Waves of blocks; in every round warpgroups share tensor cores, and warps the units of exponentials and the issue slots, and each goes
    /// through both products and what lies between them.
    fn estimate(&self, f: &Facts) -> f64 {
        let (keys, groups) = (f64::from(self.keys), f64::from(self.groups));
        let blocks = f64::from(f.heads * f.queries.div_ceil(QUERIES * self.groups));
        let resident = f64::from(f.arch.resident(self.threads(), self.registers(f), self.shared(f)));
        let rounds = f64::from(f.keys.div_ceil(self.keys));
        let products = f64::from(QUERIES) * keys * f64::from(f.depth + f.width) / f.arch.groups;
        let copies = f64::from(self.tiles(f).iter().sum::<u32>() / 16 / self.threads());
        let each = 6.0 + f.added + if f.keys.is_multiple_of(self.keys) { 0.0 } else { 1.5 };
        let issue = each * keys / 2.0 + f64::from(f.width) / 2.0 + 10.0 * copies + 60.0;
        let exponentials = 8.0 * keys / 2.0;
        // Warpgroups of a block meet in every round: one's weights hardly hide another's products. The first tile nothing hides.
        let alone = groups * (products + 0.9 * issue) + 100.0;
        let first = f64::from(self.queries(f) + self.tiles(f).iter().sum::<u32>()) / 43.0;
        let wave = |together: f64| {
            let shared = (1.3 + 0.1 * groups) * together * groups * products.max(issue).max(exponentials);
            rounds * shared.max(alone) + together * first + 3100.0 + 4.0 * f64::from(f.width)
        };
        f.arch.waves((blocks, 1), resident, wave) / 1.7
    }
}

/// The kernel of attention; its parameters are queries, keys, values, the mask where there is one, and the output.
///
/// # Errors
/// Where the schedule does not fit.
pub fn wgflash(p: &Attention, s: &WgFlash, arch: &Arch) -> Result<Kernel, Unsupported> {
    let facts = Facts::of(p, arch);
    let f = &facts;
    let Some(Mode::Half(half)) = f.mode.filter(|_| s.legal(f)) else {
        return Err(Unsupported(format!("{s} does not fit attention of {}", p.q.dtype)));
    };
    let mode = Mode::Half(half);
    let (threads, rows) = (s.threads(), QUERIES * s.groups);
    let groups = f.queries.div_ceil(rows);
    let mut k = Writer::for_arch(arch);
    k.fast = true;
    let block = k.op(Ty::U32, Op::Special(Special::Block), &[]);
    let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
    let (head, group) = k.div_rem(block, groups);
    let first_row = k.scaled(group, i64::from(rows));
    let sources = sources(p);
    let layouts = s.layouts(f);
    let [key_bytes, value_bytes] = s.tiles(f);
    let shared = k.shared(s.shared(f));
    let start_keys = k.plus(shared, i64::from(s.queries(f)));
    let start_values = k.plus(start_keys, i64::from(key_bytes));
    let query_panel = rows * ROW;
    let load_queries = Loader::new(
        &mut k,
        &sources[0],
        layouts[0],
        arch,
        (thread, threads),
        Corner { start: shared, batch: head, first: first_row, apart: rows, by_lane: None },
    );
    let mut loaders = vec![];
    for (i, start, elements) in [(1, start_keys, f.depth), (2, start_values, f.width)] {
        for panel in 0..panels(elements) {
            let start = k.plus(start, i64::from(panel * s.keys * ROW));
            let first = k.int(i64::from(panel * PANEL), Ty::U32);
            loaders.push(Loader::new(
                &mut k,
                &sources[i],
                layouts[i],
                arch,
                (thread, threads),
                Corner { start, batch: head, first, apart: layouts[i].lines, by_lane: None },
            ));
        }
    }
    let asynchronous = load_queries.is_asynchronous() || loaders.iter().any(Loader::is_asynchronous);

    let (warp, lane) = k.warp(thread);
    let (warpgroup, quarter) = k.div_rem(warp, 4);
    let own = k.scaled(warpgroup, i64::from(QUERIES));
    let own_bytes = k.scaled(own, i64::from(ROW));
    let own_queries = k.add(shared, own_bytes);
    let queries = descriptor(&mut k, own_queries, 0);
    let own_row = k.scaled(quarter, 16);
    let own_row = k.add(own, own_row);

    for panel in 0..panels(f.depth) {
        let (depth, to) = (k.int(i64::from(panel * PANEL), Ty::U32), k.int(i64::from(panel * query_panel), Ty::U32));
        load_queries.copy(&mut k, depth, to, false);
    }
    let rounds = f.keys.div_ceil(s.keys);
    let whole = f.keys.is_multiple_of(s.keys);
    let state = State::new(&mut k, f.width);
    let nothing = k.float(0.0, Ty::F32);
    let scores: Vec<Val> = (0..s.keys / 2).map(|_| k.variable(nothing)).collect();
    let exponents = Exponents::new(&mut k, p, (head, first_row, own_row, lane), (s.keys, whole));
    let copies = |k: &mut Writer, round: Val, to: Val| {
        let at = k.scaled(round, i64::from(s.keys));
        loaders.iter().for_each(|l| l.copy(k, at, to, whole));
    };
    let multiply = |k: &mut Writer, _: Val, reading: Val| {
        let start = k.add(start_keys, reading);
        let keys = descriptor(k, start, 0);
        k.fence_products();
        for step in 0..f.depth / STEP {
            let (panel, within) = (step * STEP / PANEL, step * STEP % PANEL * 2);
            let a = k.plus(queries, i64::from((panel * query_panel + within) >> 4));
            let b = k.plus(keys, i64::from((panel * s.keys * ROW + within) >> 4));
            k.group_mma((mode.factor(), GroupMma { adds: step > 0, across: false }), &scores, &[a], b);
        }
        k.commit_products();
    };
    let weigh = |k: &mut Writer, (round, reading): (Val, Val)| {
        let start = k.add(start_values, reading);
        let values = descriptor(k, start, s.keys * ROW);
        let first = k.scaled(round, i64::from(s.keys));
        let added = exponents.added(k, first);
        k.wait_products(0);
        let logits = exponents.of(k, &scores, added, first);
        let weights = state.update(k, &logits, exponents.scale);
        let words: Vec<[Val; 4]> = (0..s.keys / STEP).map(|step| halves(k, half, &weights, step)).collect();
        k.fence_products();
        for (step, words) in (0..).zip(&words) {
            let b = k.plus(values, i64::from((step * STEP * ROW) >> 4));
            k.group_mma((mode.factor(), GroupMma { adds: true, across: true }), &state.results, words, b);
        }
        k.commit_products();
    };
    let bytes = key_bytes + value_bytes;
    Pipeline { stages: s.stages, bytes, rounds, asynchronous, readers: Readers::Products }.run_products(&mut k, &copies, multiply, weigh);
    state.finish(&mut k);
    let outputs = state.neighbours(&mut k, lane, f.width);
    Place { p, f, head, row: [first_row, own_row], lane }.store(&mut k, &outputs, state.sums);
    Ok(k.finish("wgflash", 4 + u32::from(p.mask.is_some()), threads, f.heads * groups))
}
