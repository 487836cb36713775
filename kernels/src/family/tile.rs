//! A factor's tile in shared memory: how a block copies it there, stage by stage, and how threads read it.

use super::affine::{Linear, Term};
use super::scalar;
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::layout::Rows;
use crate::ptx::{MemTy, Op, Ty};
use wpk_plan::{DType, TensorMap};

/// Which neighbours lie together in shared memory, and so are copied together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Along {
    /// Elements of one line (row of the first factor, column of the second) at successive depths.
    Depth,
    /// Elements of one depth in successive lines.
    Lines,
}

/// Bytes added to a line, so that lines begin at different banks.
const PAD: u32 = 16;

/// Where a factor's elements are.
pub struct Source {
    pub param: u32,
    pub dtype: DType,
    /// What `f32` is rounded to as it is read.
    pub rounds: Option<DType>,
    pub linear: Linear,
    pub batch: Vec<usize>,
    pub lines: Vec<usize>,
    pub depth: Vec<usize>,
}

/// The shape of a tile, and how neighbours are copied.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub along: Along,
    /// Neighbours of one copy.
    pub vector: u32,
    pub lines: u32,
    pub depth: u32,
    /// Bytes of an element in shared memory.
    pub element: u32,
    /// A row holds a line (`Along::Depth`) or a depth (`Along::Lines`).
    pub rows: Rows,
}

impl Source {
    fn count(&self, loops: &[usize]) -> usize {
        loops.iter().map(|&l| self.linear.space[l]).product()
    }

    /// The direction in which neighbours lie together in global memory, and how many are copied at once: 16 bytes, or fewer.
    pub fn direction(&self) -> (Along, u32) {
        let innermost = |loops: &[usize]| {
            let last = loops.iter().rev().find(|&&l| self.linear.space[l] > 1);
            last.map_or(i64::MAX, |&l| self.linear.per_loop[l].abs().max(1))
        };
        let size = self.dtype.bytes();
        let wide = [16, 8, 4].into_iter().map(|bytes| bytes / size).filter(|&n| n > 1);
        let found = wide.flat_map(|n| [(Along::Depth, &self.depth, n), (Along::Lines, &self.lines, n)]);
        let best = found.into_iter().find(|(_, loops, n)| self.linear.together(loops, *n)).map(|(along, _, n)| (along, n as u32));
        let single = if innermost(&self.depth) < innermost(&self.lines) { Along::Depth } else { Along::Lines };
        best.unwrap_or((single, 1))
    }
}

impl Layout {
    /// For FP32 cores: floats, lines padded along the depth.
    pub fn new((along, vector): (Along, u32), lines: u32, depth: u32) -> Self {
        let rows = match along {
            Along::Depth => Rows::padded(4 * depth, PAD),
            Along::Lines => Rows::padded(4 * lines, 0),
        };
        Self { along, vector: vector.min(4), lines, depth, element: 4, rows }
    }

    /// For tensor cores: rows exchanged for loads of matrices; words across lines are read one by one, from padded rows.
    pub fn for_matrices((along, vector): (Along, u32), lines: u32, depth: u32, element: u32) -> Self {
        let rows = match along {
            Along::Depth => Rows::for_matrices(element * depth),
            Along::Lines if element == 2 => Rows::for_matrices(element * lines),
            Along::Lines => Rows::padded(element * lines, 32),
        };
        Self { along, vector, lines, depth, element, rows }
    }

    /// Bytes of one stage.
    pub fn bytes(&self) -> u32 {
        self.rows.pitch * self.sides().0
    }

    /// Rows, and elements of a row.
    fn sides(&self) -> (u32, u32) {
        match self.along {
            Along::Depth => (self.lines, self.depth),
            Along::Lines => (self.depth, self.lines),
        }
    }

    /// Copies side by side in a row, rows copied at once, and how often; threads beyond that are idle. `None` where there are too
    /// few threads for a row, or for as many rows as repeat exchanged.
    fn rounds(&self, threads: u32) -> Option<(u32, u32, u32)> {
        let (rows, along) = self.sides();
        let side = along / self.vector;
        if !along.is_multiple_of(self.vector) || side == 0 {
            return None;
        }
        let repeats = |n: &u32| *n == rows || !self.rows.is_swizzled() || n.is_multiple_of(Rows::PERIOD);
        let at_once = (1..=(threads / side).min(rows)).rev().find(|n| rows.is_multiple_of(*n) && repeats(n))?;
        Some((side, at_once, rows / at_once))
    }

    pub fn fits(&self, threads: u32) -> bool {
        self.rounds(threads).is_some()
    }

    /// Bytes from one line to the next, and from one depth to the next, where nothing is exchanged.
    fn strides(&self) -> (u32, u32) {
        match self.along {
            Along::Depth => (self.rows.pitch, self.element),
            Along::Lines => (self.element, self.rows.pitch),
        }
    }

    /// The line that a thread's element `i` of `n` is, relative to [`Layout::first_line`].
    pub fn line(&self, i: u32, n: u32) -> u32 {
        match self.along {
            Along::Depth => i * (self.lines / n),
            Along::Lines => {
                let group = n.min(4);
                i / group * (self.lines / n * group) + i % group
            }
        }
    }

    /// The first line of thread `t` among those that share the lines, each with `n` of them.
    pub fn first_line(&self, k: &mut Writer, t: Val, n: u32) -> Val {
        match self.along {
            Along::Depth => t,
            Along::Lines => k.scaled(t, i64::from(n.min(4))),
        }
    }

    /// Elements of `n` lines at four depths from `depth` on: `[depth][line]`. `at` is the shared address of the thread's first line.
    pub fn read(&self, k: &mut Writer, at: Val, depth: u32, n: u32) -> Vec<Vec<Val>> {
        let (line_stride, depth_stride) = self.strides();
        let offset = |line: u32, d: u32| (line * line_stride + d * depth_stride) as i32;
        match self.along {
            Along::Depth => {
                let lines: Vec<Vec<Val>> = (0..n).map(|i| k.load_at(MemTy::F32, Ty::F32, at, offset(self.line(i, n), depth), 4)).collect();
                (0..4).map(|d| lines.iter().map(|l| l[d]).collect()).collect()
            }
            Along::Lines => {
                let group = n.min(4);
                let row = |k: &mut Writer, d: u32| {
                    let groups = (0..n).step_by(group as usize);
                    groups.flat_map(|i| k.load_at(MemTy::F32, Ty::F32, at, offset(self.line(i, n), depth + d), group as usize)).collect()
                };
                (0..4).map(|d| row(k, d)).collect()
            }
        }
    }

    /// The shared address of a thread's first line.
    pub fn address(&self, k: &mut Writer, start: Val, first_line: Val) -> Val {
        let moved = k.scaled(first_line, i64::from(self.strides().0));
        k.add(start, moved)
    }
}

/// Where a block's tiles begin: in shared memory, and among batches and lines.
pub struct Corner {
    pub start: Val,
    pub batch: Val,
    pub first: Val,
    /// Lines from one block's to the next one's.
    pub apart: u32,
    /// See [`Lanes`].
    pub by_lane: Option<Lanes>,
}

/// An order of the columns of a tile by which the sums that a lane has of several products are neighbours: so many of them, four or eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes(pub u32);

impl Lanes {
    /// As the copy engine brings them: [`TensorMap::line`].
    pub const BY_ENGINE: Self = Self(TensorMap::LANES as u32 / 4);

    /// For results of so many bytes. A lane stores 16 bytes at once: all of eight neighbours of half types, while those of two stores of `f32` would lie
    /// between those of other lanes.
    pub fn storing(bytes: usize) -> Self {
        Self(if bytes < 4 { 8 } else { 4 })
    }

    /// Columns of all lanes.
    pub fn all(self) -> u32 {
        4 * self.0
    }

    /// The column of a sum: of a lane among four, a product of eight columns, and which of its two.
    pub fn column(self, k: &mut Writer, lane: Val, product: Val, one: Val) -> Val {
        let (groups, within) = k.div_rem(product, self.0 / 2);
        [(groups, self.all()), (lane, self.0), (within, 2)].into_iter().fold(one, |column, (x, by)| {
            let moved = k.scaled(x, i64::from(by));
            k.add(column, moved)
        })
    }

    /// Which line of a tile lies at a place.
    pub fn line(self, k: &mut Writer, place: Val) -> Val {
        let (rest, one) = k.div_rem(place, 2);
        let (product, lane) = k.div_rem(rest, 4);
        self.column(k, lane, product, one)
    }
}

/// What one thread copies in every stage.
pub struct Loader<'a> {
    source: &'a Source,
    layout: Layout,
    asynchronous: bool,
    /// Whether the thread copies at all, where not all do.
    active: Option<Val>,
    /// The depth of its first copy in a tile.
    depth: Val,
    /// Its first copy's shared address in stage 0.
    to: Val,
    /// By copy: bytes and depth from the first, what its line contributes, and whether its line exists.
    copies: Vec<(i32, u32, Term, Option<Val>)>,
    total: u32,
}

impl<'a> Loader<'a> {
    /// `thread` of `threads`, for the tile that begins at `first` of the lines of which `limit` exist.
    pub fn new(
        k: &mut Writer,
        source: &'a Source,
        layout: Layout,
        arch: &Arch,
        (thread, threads): (Val, u32),
        Corner { start, batch, first, apart, by_lane }: Corner,
    ) -> Self {
        let (side, at_once, rounds) = layout.rounds(threads).unwrap_or((1, threads, 0));
        let (row, chunk) = k.div_rem(thread, side);
        let active = (threads > side * at_once).then(|| k.below(row, i64::from(at_once)));
        let neighbour = k.scaled(chunk, i64::from(layout.vector));
        let (line, depth, step_line, step_depth) = match layout.along {
            Along::Depth => (row, neighbour, at_once, 0),
            Along::Lines => (neighbour, row, 0, at_once),
        };
        let byte = k.scaled(neighbour, i64::from(layout.element));
        let place = layout.rows.emit(k, row, byte);
        let to = k.add(start, place);
        let mut base = source.linear.start(k);
        let outer = source.linear.term(k, batch, &source.batch);
        base = base.plus(k, &outer);
        let total = source.count(&source.lines) as u32;
        let mut copies: Vec<(i32, u32, Term, Option<Val>)> = vec![];
        for i in 0..rounds {
            let offset = (i * at_once * layout.rows.pitch) as i32;
            // Copies of the same line share what it contributes.
            if let (0, Some((_, _, term, valid))) = (step_line, copies.first()) {
                let same = (offset, i * step_depth, term.clone(), *valid);
                copies.push(same);
                continue;
            }
            let line = k.plus(line, i64::from(i * step_line));
            let line = by_lane.map_or(line, |lanes| lanes.line(k, line));
            let at = k.add(first, line);
            let term = source.linear.term(k, at, &source.lines);
            let term = base.plus(k, &term);
            let valid = if total.is_multiple_of(apart) { None } else { Some(k.below(at, i64::from(total))) };
            let (term, valid) = term.only_where(k, valid);
            copies.push((offset, i * step_depth, term, valid));
        }
        let same = source.dtype.bytes() == layout.element as usize && source.rounds.is_none();
        let asynchronous = arch.copies && same && layout.vector * layout.element >= 4;
        Self { source, layout, asynchronous, active, depth, to, copies, total: source.count(&source.depth) as u32 }
    }

    /// Whether its copies have to be waited for.
    pub fn is_asynchronous(&self) -> bool {
        self.asynchronous
    }

    /// Rounds the floats that the thread copied to a stage to TF32, in place.
    pub fn round(&self, k: &mut Writer, stage: Val) {
        k.when_some(self.active, |k| self.rounded(k, stage));
    }

    fn rounded(&self, k: &mut Writer, stage: Val) {
        let at = k.add(self.to, stage);
        for (offset, ..) in &self.copies {
            let words: Vec<Val> = k.load_at(MemTy::F32, Ty::F32, at, *offset, self.layout.vector as usize);
            let words: Vec<Val> = words.into_iter().map(|x| k.op(Ty::U32, Op::ToTf32, &[x])).collect();
            k.store_at(MemTy::B32, at, *offset, &words);
        }
    }

    /// Starts the copies of the tile at depth `first` into the stage that begins `stage` bytes behind the first.
    /// `whole` says that every tile of the grid is within the depth.
    pub fn copy(&self, k: &mut Writer, first: Val, stage: Val, whole: bool) {
        k.when_some(self.active, |k| self.copies(k, first, stage, whole));
    }

    fn copies(&self, k: &mut Writer, first: Val, stage: Val, whole: bool) {
        let linear = &self.source.linear;
        let to = k.add(self.to, stage);
        let mut known: Option<(Term, Option<Val>)> = None;
        for (offset, deeper, term, valid) in &self.copies {
            let (inner, deep) = match (&known, self.layout.along) {
                (Some(known), Along::Depth) => known.clone(),
                _ => {
                    let at = k.add(first, self.depth);
                    let at = k.plus(at, i64::from(*deeper));
                    let inner = linear.term(k, at, &self.source.depth);
                    let deep = if whole { None } else { Some(k.below(at, i64::from(self.total))) };
                    inner.only_where(k, deep)
                }
            };
            let point = term.plus(k, &inner);
            let (inside, place) = linear.resolve(k, &point);
            let valid = k.both(*valid, deep);
            let valid = k.both(valid, inside);
            self.one(k, to, *offset, place, valid);
            known = Some((inner, deep));
        }
    }

    /// One copy of neighbours, or zeros where it is not valid.
    fn one(&self, k: &mut Writer, to: Val, offset: i32, place: Val, valid: Option<Val>) {
        let (dtype, n) = (self.source.dtype, self.layout.vector);
        let from = k.element(self.source.param, place, dtype.bytes());
        let bytes = self.layout.element * n;
        if self.asynchronous {
            let (all, none) = (k.int(i64::from(bytes), Ty::U32), k.int(0, Ty::U32));
            let count = valid.map_or(all, |p| k.select(p, all, none));
            return k.copy_async(bytes, to, offset, from, count);
        }
        // Half types for tensor cores move by their bits; on FP32 cores they are widened.
        let widened = self.layout.element as usize != dtype.bytes();
        let (mem, ty, count) = match (widened, dtype.bytes(), bytes) {
            (true, ..) | (_, 4, _) => (scalar::memory(dtype).0, scalar::memory(dtype).1, n),
            (false, _, 2) => (MemTy::U16, Ty::U32, 1),
            _ => (MemTy::B32, Ty::U32, bytes / 4),
        };
        let float = widened || ty == Ty::F32;
        let zero = if float { k.float(0.0, Ty::F32) } else { k.int(0, ty) };
        let values: Vec<Val> = (0..count).map(|_| k.variable(zero)).collect();
        let load = |k: &mut Writer| {
            // Widened neighbours may be more bytes than one load reads, or fewer.
            let loaded = k.load(mem, ty, from, count as usize);
            for (&v, x) in values.iter().zip(loaded) {
                let x = if widened { scalar::widen(k, x, dtype) } else { x };
                let x = self.source.rounds.map_or_else(|| x, |to| scalar::rounded(k, x, to));
                k.assign(v, x);
            }
        };
        k.when_some(valid, load);
        k.store_at(if float { MemTy::F32 } else { mem }, to, offset, &values);
    }
}
