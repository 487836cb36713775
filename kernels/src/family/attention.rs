//! Attention in one kernel: scores of a tile of keys stay in registers, rows are rescaled as larger scores come (online softmax;
//! Milakov and Gimelshein 2018, Dao et al. 2022). Warps share the queries, and the keys of each tile; partial results of warps with
//! the same queries meet in shared memory in a fixed order.

use super::Unsupported;
use super::affine::Linear;
use super::exponents::Exponents;
use super::fragments::{Fragments, Side};
use super::online_softmax::{Place, State, meet};
use super::pipeline::{Pipeline, Readers};
use super::products::{Mode, multiply};
use super::tile::{Along, Corner, Layout, Loader, Source};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::layout::Rows;
use crate::ptx::{Half, Kernel, Op, Special, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::problem::{Attention, Operand};

schedule! {
    /// How attention is computed.
    Flash(Attention => Facts) = "flash" {
        /// Warps with queries of their own, 16 each.
        queries: [1, 2, 4, 8],
        /// Warps that share the keys of the same queries.
        parts: [1, 2, 4],
        /// Keys of a warp in a tile.
        keys: [16, 32, 64],
        /// Tiles in shared memory at once.
        stages: [2, 3],
    }
}

/// What a schedule of attention depends on.
pub struct Facts {
    pub(super) heads: u32,
    pub(super) queries: u32,
    pub(super) keys: u32,
    /// Elements of a query, and of a value, as tiles hold them.
    pub(super) depth: u32,
    pub(super) width: u32,
    /// Elements that are copied at once, of queries, keys and values.
    pub(super) vectors: [u32; 3],
    pub(super) mode: Option<Mode>,
    pub(super) element: u32,
    pub(super) small: bool,
    /// Instructions that a mask takes by score.
    pub(super) added: f64,
    pub(super) arch: Arch,
}

/// Elements copied at once along the last dimension: 16 bytes, or fewer.
fn vector(o: &Operand) -> u32 {
    let linear = Linear::view(&o.view, &o.view.shape);
    let size = o.dtype.bytes();
    [16, 8, 4].iter().map(|b| b / size).find(|&n| n > 1 && linear.together(&[3], n)).unwrap_or(1) as u32
}

impl Facts {
    pub(super) fn of(p: &Attention, arch: &Arch) -> Self {
        let [b, h, s, d] = [0, 1, 2, 3].map(|i| p.q.view.shape.get(i).copied().unwrap_or(0));
        let (keys, width) = (p.k.view.shape.get(2).copied().unwrap_or(0), p.v.view.shape.get(3).copied().unwrap_or(0));
        let operands = [&p.q, &p.k, &p.v, &p.out].into_iter().chain(&p.mask);
        let small = operands.clone().all(|o| o.view.span().is_some_and(|s| s.1 < 1 << 30));
        let alike = [&p.k, &p.v].iter().all(|o| o.dtype == p.q.dtype);
        let element = p.q.dtype.bytes().clamp(2, 4) as u32;
        let padded = |n: usize| (n as u32).next_multiple_of(32 / element).max(32 / element);
        Self {
            heads: (b * h) as u32,
            queries: s as u32,
            keys: keys as u32,
            depth: padded(d),
            width: (width as u32).next_multiple_of(16).max(16),
            vectors: [&p.q, &p.k, &p.v].map(vector),
            mode: Mode::of(p.q.dtype, p.tf32).filter(|_| arch.matrix > 0.0 && alike),
            element,
            added: p.mask.as_ref().map_or(0.0, |m| if m.view.strides.get(2) == Some(&0) { 1.5 } else { 3.0 }),
            small: small && d > 0 && keys > 0 && width > 0 && b * h * s > 0,
            arch: *arch,
        }
    }
}

/// The tiles of queries, keys and values, each as it is copied (rows are lines of queries, keys and keys).
struct Tiles {
    queries: Layout,
    keys: Layout,
    values: Layout,
}

impl Flash {
    fn warps(&self) -> u32 {
        self.queries * self.parts
    }

    fn threads(&self) -> u32 {
        32 * self.warps()
    }

    /// Keys of a tile.
    fn tile(&self) -> u32 {
        self.keys * self.parts
    }

    fn tiles(&self, f: &Facts) -> Tiles {
        let along = |bytes: u32| Rows::for_matrices(bytes);
        let layout = |along, vector, lines, depth, rows| Layout { along, vector, lines, depth, element: f.element, rows };
        // Values in words of their own are read at two depths side by side.
        let values = if f.element == 2 { along(2 * f.width) } else { Rows::padded(4 * f.width, 16) };
        Tiles {
            queries: layout(Along::Depth, f.vectors[0], 16 * self.queries, f.depth, along(f.element * f.depth)),
            keys: layout(Along::Lines, f.vectors[1], f.depth, self.tile(), along(f.element * f.depth)),
            values: layout(Along::Lines, f.vectors[2], f.width, self.tile(), values),
        }
    }

    /// Bytes of shared memory: queries, stages of keys and values; where warps share queries, their results in the same place.
    fn shared(&self, f: &Facts) -> u32 {
        let t = self.tiles(f);
        let streams = t.queries.bytes() + self.stages * (t.keys.bytes() + t.values.bytes());
        let results = if self.parts > 1 { self.threads() * 4 * (f.width / 2 + 4) } else { 0 };
        streams.max(results)
    }

    fn registers(&self, f: &Facts, mode: Mode) -> u32 {
        let words = if mode == Mode::Parts { 36 } else { 4 + self.keys / 4 + f.width / 4 };
        64 + self.keys / 2 + f.width / 2 + words
    }

    fn fits(&self, f: &Facts) -> bool {
        let Some(mode) = f.mode else { return false };
        let t = self.tiles(f);
        let registers = self.registers(f, mode);
        f.small
            && self.warps() <= 16
            && registers <= 255
            && registers * self.threads() <= 65536
            && (self.parts == 1 || self.tile() < f.keys.next_multiple_of(self.keys) + self.keys)
            && [t.queries, t.keys, t.values].iter().all(|l| l.fits(self.threads()))
            && self.shared(f) as usize <= f.arch.shared
            && u64::from(f.heads) * u64::from(f.queries.div_ceil(16 * self.queries)) < 1 << 24
    }

    /// Waves of blocks; in every round a warp goes through a chain of products, exchanges and exponentials, and all warps of a
    /// multiprocessor share its issue slots.
    fn estimate(&self, f: &Facts) -> f64 {
        let Some(mode) = f.mode else { return f64::INFINITY };
        let blocks = f64::from(f.heads * f.queries.div_ceil(16 * self.queries));
        let resident = f64::from(f.arch.resident(self.threads(), self.registers(f, mode), self.shared(f)));
        let rounds = f64::from(f.keys.div_ceil(self.tile()));
        let (steps, keys) = (f64::from(f.depth * f.element / 32), f64::from(self.keys));
        // By warp and round: products, loads of matrices, and some ten operations a score and one a result.
        let tiles = keys / 8.0 * steps + f64::from(f.width) / 8.0 * keys * f64::from(f.element) / 32.0;
        let products = tiles * f64::from(mode.products());
        let roundings = if f.element == 2 { 0.0 } else { 4.0 * f64::from(mode.products()) * tiles };
        let vector = 5.0 * keys + f64::from(f.width) + 120.0;
        let issue = f64::from(self.warps()) * (products * 8192.0 / f.arch.matrix + 0.6 * tiles + roundings + vector) / 4.0;
        let alone = 9.0 * products + roundings + vector * 2.0 + 25.0 * steps + 450.0;
        let wave = |together: f64| rounds * (together * issue).max(alone) + 2500.0 + 4.0 * f64::from(f.width);
        f.arch.waves((blocks, 1), resident, wave) / 1.7 + f64::from(self.parts - 1) * 200.0
    }
}

/// The kernel of attention; its parameters are queries, keys, values, the mask where there is one, and the output.
///
/// # Errors
/// Where the schedule does not fit.
pub fn attention(p: &Attention, s: &Flash, arch: &Arch) -> Result<Kernel, Unsupported> {
    let facts = Facts::of(p, arch);
    let Some(mode) = facts.mode.filter(|_| s.legal(&facts)) else {
        return Err(Unsupported(format!("{s} does not fit attention of {}", p.q.dtype)));
    };
    let f = &facts;
    let tiles = s.tiles(f);
    let (threads, rows) = (s.threads(), 16 * s.queries);
    let groups = f.queries.div_ceil(rows);
    let mut k = Writer::for_arch(arch);
    k.fast = f.element == 2;
    let block = k.op(Ty::U32, Op::Special(Special::Block), &[]);
    let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
    let (head, group) = k.div_rem(block, groups);
    let first_row = k.scaled(group, i64::from(rows));
    let sources = sources(p);
    let shared = k.shared(s.shared(f));
    let stage_bytes = tiles.keys.bytes() + tiles.values.bytes();
    let start_keys = k.plus(shared, i64::from(tiles.queries.bytes()));
    let start_values = k.plus(start_keys, i64::from(tiles.keys.bytes()));
    let zero = k.int(0, Ty::U32);
    let loader = |k: &mut Writer, i: usize, layout: Layout, start: Val, first: Val| {
        Loader::new(
            k,
            &sources[i],
            layout,
            arch,
            (thread, threads),
            Corner { start, batch: head, first, apart: layout.lines, by_lane: None },
        )
    };
    let load_queries = loader(&mut k, 0, tiles.queries, shared, first_row);
    let loaders = [loader(&mut k, 1, tiles.keys, start_keys, zero), loader(&mut k, 2, tiles.values, start_values, zero)];
    let asynchronous = load_queries.is_asynchronous() || loaders.iter().any(Loader::is_asynchronous);

    let (warp, lane) = k.div_rem(thread, 32);
    let (own, part) = k.div_rem(warp, s.parts);
    let own_row = k.scaled(own, 16);
    let own_key = k.scaled(part, i64::from(s.keys));
    // The tiles as they are read: keys are columns of the scores, values columns of the result.
    let read_keys = Layout { along: Along::Depth, lines: s.tile(), depth: f.depth, ..tiles.keys };
    let queries = Fragments::new(&mut k, tiles.queries, Side::Rows, (lane, own_row, 16), shared, false);
    let keys = Fragments::new(&mut k, read_keys, Side::Columns, (lane, own_key, s.keys), start_keys, false);
    let key_rows = k.scaled(own_key, i64::from(tiles.values.rows.pitch));
    let start_own = k.add(start_values, key_rows);
    let values = Fragments::new(&mut k, tiles.values, Side::Columns, (lane, zero, f.width), start_own, true);

    load_queries.copy(&mut k, zero, zero, false);
    let rounds = f.keys.div_ceil(s.tile());
    let whole = f.keys.is_multiple_of(s.tile());
    let state = State::new(&mut k, f.width);
    let exponents = Exponents::new(&mut k, p, (head, first_row, own_row, lane), (s.keys, whole));
    let copies = |k: &mut Writer, round: Val, to: Val| {
        let at = k.scaled(round, i64::from(s.tile()));
        loaders.iter().for_each(|l| l.copy(k, at, to, whole));
    };
    let consume = |k: &mut Writer, round: Val, reading: Val| {
        let first = k.scaled(round, i64::from(s.tile()));
        let first = k.add(first, own_key);
        let added = exponents.added(k, first);
        let scores = scores(k, mode, (&queries, &keys), reading, (s.keys, f.depth * f.element / 32));
        let logits = exponents.of(k, &scores, added, first);
        let weights = state.update(k, &logits, exponents.scale);
        let bases = values.in_stage(k, reading);
        add_values(k, mode, &values, &bases, &weights, &state.results, (s.keys, f.width));
    };
    Pipeline { stages: s.stages, bytes: stage_bytes, rounds, asynchronous, readers: Readers::Warps }.run(&mut k, &copies, consume);
    state.finish(&mut k);
    let outputs = state.neighbours(&mut k, lane, f.width);
    let place = Place { p, f, head, row: [first_row, own_row], lane };
    if s.parts == 1 {
        place.store(&mut k, &outputs, state.sums);
    } else {
        k.barrier();
        meet(&mut k, s.parts, &place, (shared, warp, part), &state, &outputs);
    }
    let params = 4 + u32::from(p.mask.is_some());
    Ok(k.finish("attention", params, threads, f.heads * groups))
}

/// Queries, keys and values, as tiles are copied from them.
pub(super) fn sources(p: &Attention) -> [Source; 3] {
    let source = |param: u32, o: &Operand, lines: usize, depth: usize| Source {
        rounds: None,
        param,
        dtype: o.dtype,
        linear: Linear::view(&o.view, &o.view.shape),
        batch: vec![0, 1],
        lines: vec![lines],
        depth: vec![depth],
    };
    [source(0, &p.q, 2, 3), source(1, &p.k, 3, 2), source(2, &p.v, 3, 2)]
}

/// Scores of 16 queries by a warp's keys: four for 16 rows and 8 columns.
fn scores(k: &mut Writer, mode: Mode, (queries, keys): (&Fragments, &Fragments), stage: Val, (count, steps): (u32, u32)) -> Vec<Val> {
    let zero = k.float(0.0, Ty::F32);
    let sums: Vec<Val> = (0..count / 2).map(|_| k.variable(zero)).collect();
    let none = k.int(0, Ty::U32);
    let bases = [queries.in_stage(k, none), keys.in_stage(k, stage)];
    for at in 0..steps.div_ceil(mode.steps()) {
        let rows = [mode.read(k, (queries, &bases[0]), (at, steps), 0, false)];
        for block in 0..count / 16 {
            let columns = mode.read(k, (keys, &bases[1]), (at, steps), block, false);
            multiply(k, mode, &rows, &columns, (block, count / 16), &sums);
        }
    }
    sums
}

/// Weights of 16 keys as words of the first factor: two neighbours each.
pub(super) fn halves(k: &mut Writer, h: Half, weights: &[Val], step: u32) -> [Val; 4] {
    [0, 2, 4, 6].map(|i| 8 * step as usize + i).map(|i| k.op(Ty::U32, Op::Pack(h), &[weights[i + 1], weights[i]]))
}

/// Adds the values of a warp's keys by their weights.
fn add_values(k: &mut Writer, mode: Mode, values: &Fragments, bases: &[Val], weights: &[Val], results: &[Val], (keys, width): (u32, u32)) {
    let steps = keys / if let Mode::Half(_) = mode { 16 } else { 8 };
    // Scores of 8 columns become words of the first factor: for halves two neighbours each, else a column each, which the values' words
    // follow.
    let raw = |k: &mut Writer, step: u32| match mode {
        Mode::Half(h) => halves(k, h, weights, step),
        _ => [0, 2, 1, 3].map(|i| k.op(Ty::U32, Op::Bits(Ty::F32), &[weights[4 * step as usize + i]])),
    };
    for at in 0..steps.div_ceil(mode.steps()) {
        let own: Vec<Vec<Val>> = (at * mode.steps()..steps.min((at + 1) * mode.steps())).map(|step| raw(k, step).to_vec()).collect();
        let rows = [mode.words(k, Side::Rows, &own, false)];
        for block in 0..width / 16 {
            let columns = mode.read(k, (values, bases), (at, steps), block, false);
            multiply(k, mode, &rows, &columns, (block, width / 16), results);
        }
    }
}
