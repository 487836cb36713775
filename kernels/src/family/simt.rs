//! Contractions without tensor cores: tiles of both factors in shared memory, a small tile of sums in each thread's registers.
//!
//! Every element is found through the problem's affine access maps, so products, convolutions and their transposes are one
//! family; what lies outside reads as zero.

use super::{Unsupported, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Kernel, MemTy, Op, Special, Ty};
use wpk_plan::problem::{Access, Contraction};
use wpk_plan::{DType, View};

/// How a contraction is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Simt {
    /// Rows of a block's tile.
    pub bm: u32,
    /// Columns of a block's tile.
    pub bn: u32,
    /// Depth of a tile.
    pub bk: u32,
    /// Rows of a thread's tile.
    pub tm: u32,
    /// Columns of a thread's tile.
    pub tn: u32,
}

impl Simt {
    /// Every schedule there is.
    pub fn space() -> impl Iterator<Item = Self> {
        let sizes = |list: &'static [u32]| list.iter().copied();
        sizes(&[16, 32, 64]).flat_map(move |bm| {
            sizes(&[16, 32, 64]).flat_map(move |bn| {
                sizes(&[8, 16])
                    .flat_map(move |bk| sizes(&[2, 4]).flat_map(move |tm| sizes(&[2, 4]).map(move |tn| Self { bm, bn, bk, tm, tn })))
            })
        })
    }

    fn threads(&self) -> u32 {
        self.bm / self.tm * (self.bn / self.tn)
    }

    /// Whether it fits a problem: whole warps, each thread loading the same rows and columns in every round.
    pub fn legal(&self, c: &Contraction, arch: &Arch) -> bool {
        let threads = self.threads();
        let even = threads.is_multiple_of(self.bm)
            && threads.is_multiple_of(self.bn)
            && self.bk.is_multiple_of(threads / self.bm)
            && self.bk.is_multiple_of(threads / self.bn);
        let small =
            c.space.iter().product::<usize>() < 1 << 31 && [&c.a, &c.b].iter().all(|a| a.view().span().is_some_and(|s| s.1 < 1 << 31));
        (32..=1024).contains(&threads)
            && threads.is_multiple_of(32)
            && even
            && small
            && ((self.bm + self.bn) * self.bk * 4) as usize <= arch.shared.min(48 << 10)
    }

    /// A choice without a search: the largest tiles that leave few idle rows and columns.
    pub fn heuristic(c: &Contraction, arch: &Arch) -> Option<Self> {
        let roles = c.roles();
        let (m, n) = (roles.count(&roles.m) as u32, roles.count(&roles.n) as u32);
        let waste = |s: &Self| u64::from(m.next_multiple_of(s.bm)) * u64::from(n.next_multiple_of(s.bn));
        Self::space()
            .filter(|s| s.legal(c, arch))
            .min_by_key(|s| (waste(s), std::cmp::Reverse(s.bm * s.bn), std::cmp::Reverse(s.tm * s.tn), s.bk))
    }
}

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn simt(c: &Contraction, s: &Simt, arch: &Arch) -> Result<Kernel, Unsupported> {
    if !matches!(c.dtype, DType::F32 | DType::F16 | DType::BF16) || !s.legal(c, arch) {
        return Err(Unsupported(format!("{s:?} does not fit a contraction of {} over {:?}", c.dtype, c.space)));
    }
    let mut k = Writer::new();
    let roles = c.roles();
    let (m, n, depth) = (roles.count(&roles.m) as u32, roles.count(&roles.n) as u32, roles.count(&roles.k()) as u32);
    let (tiles_m, tiles_n) = (m.div_ceil(s.bm), n.div_ceil(s.bn));
    let threads = s.threads();
    let block = k.op(Ty::U32, Op::Special(Special::Block), &[]);
    let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
    let (rest, tile_n) = k.div_rem(block, tiles_n);
    let (batch, tile_m) = k.div_rem(rest, tiles_m);
    let (first_m, first_n) = (scaled(&mut k, tile_m, s.bm), scaled(&mut k, tile_n, s.bn));
    let mut loops = vec![k.int(0, Ty::U32); c.space.len()];
    split(&mut k, batch, &roles.batch, c, &mut loops);

    // What this thread loads: one row of the first factor and one column of the second, at several depths.
    let (tile_a, tile_b) = (k.shared(s.bm * s.bk * 4), k.shared(s.bn * s.bk * 4));
    let (depth_a, row) = k.div_rem(thread, s.bm);
    let (depth_b, column) = k.div_rem(thread, s.bn);
    let sides = [
        Side {
            access: &c.a,
            param: 0,
            start: tile_a,
            width: s.bm,
            line: row,
            depth: depth_a,
            at: k.add(first_m, row),
            limit: m,
            lines: &roles.m,
        },
        Side {
            access: &c.b,
            param: 1,
            start: tile_b,
            width: s.bn,
            line: column,
            depth: depth_b,
            at: k.add(first_n, column),
            limit: n,
            lines: &roles.n,
        },
    ];
    let mut own: Vec<Vec<Val>> = vec![];
    for side in &sides {
        let mut mine = loops.clone();
        split(&mut k, side.at, side.lines, c, &mut mine);
        own.push(mine);
    }
    let (ty, tx) = k.div_rem(thread, s.bn / s.tn);
    let (row, column) = (scaled(&mut k, ty, s.tm), scaled(&mut k, tx, s.tn));
    let zero = k.float(0.0, Ty::F32);
    let sums: Vec<Val> = (0..s.tm * s.tn).map(|_| k.variable(zero)).collect();
    k.repeat(depth.div_ceil(s.bk), |k, round| {
        let first = scaled(k, round, s.bk);
        for (side, mine) in sides.iter().zip(&own) {
            for step in (0..s.bk).step_by((threads / side.width) as usize) {
                let offset = k.int(i64::from(step), Ty::U32);
                let inner = k.add(side.depth, offset);
                let at = k.add(first, inner);
                let value = side.load(k, c, mine, at, depth, &roles.k());
                let line = scaled(k, inner, side.width);
                let line = k.add(line, side.line);
                let address = shared_address(k, line, side.start);
                k.store(MemTy::F32, address, &[value]);
            }
        }
        k.barrier();
        for inner in 0..s.bk {
            let lane = |k: &mut Writer, start: u32, width: u32, first: Val, i: u32| {
                let line = k.int(i64::from(inner * width + i), Ty::U32);
                let line = k.add(first, line);
                let address = shared_address(k, line, start);
                k.load(MemTy::F32, Ty::F32, address, 1)[0]
            };
            let a: Vec<Val> = (0..s.tm).map(|i| lane(k, tile_a, s.bm, row, i)).collect();
            let b: Vec<Val> = (0..s.tn).map(|j| lane(k, tile_b, s.bn, column, j)).collect();
            for (i, &sum) in sums.iter().enumerate() {
                let next = k.fma(a[i / s.tn as usize], b[i % s.tn as usize], sum);
                k.assign(sum, next);
            }
        }
        k.barrier();
    });

    let mut result = Ok(());
    for (i, &sum) in sums.iter().enumerate() {
        let (di, dj) = (k.int(i as i64 / i64::from(s.tn), Ty::U32), k.int(i as i64 % i64::from(s.tn), Ty::U32));
        let (at_m, at_n) = (k.add(first_m, row), k.add(first_n, column));
        let (at_m, at_n) = (k.add(at_m, di), k.add(at_n, dj));
        let (end_m, end_n) = (k.int(i64::from(m), Ty::U32), k.int(i64::from(n), Ty::U32));
        let (in_m, in_n) = (k.compare(Cmp::Lt, at_m, end_m), k.compare(Cmp::Lt, at_n, end_n));
        let inside = k.op(Ty::Pred, Op::And, &[in_m, in_n]);
        k.when(inside, |k| {
            let mut point = loops.clone();
            split(k, at_m, &roles.m, c, &mut point);
            split(k, at_n, &roles.n, c, &mut point);
            let stored = store(k, c, sum, &point[..c.outer]);
            result = result.clone().and(stored);
        });
    }
    result?;
    let blocks = roles.count(&roles.batch) as u32 * tiles_m * tiles_n;
    Ok(k.finish("contraction", 3 + c.extras.len() as u32, threads, blocks))
}

/// `x * factor`
fn scaled(k: &mut Writer, x: Val, factor: u32) -> Val {
    let factor = k.int(i64::from(factor), Ty::U32);
    k.mul(x, factor)
}

/// Byte address of a float in shared memory.
fn shared_address(k: &mut Writer, line: Val, start: u32) -> Val {
    let bytes = scaled(k, line, 4);
    let start = k.int(i64::from(start), Ty::U32);
    let address = k.add(bytes, start);
    if address.constant().is_some() { k.variable(address) } else { address }
}

/// A number as coordinates of some loops, the last fastest.
fn split(k: &mut Writer, x: Val, loops: &[usize], c: &Contraction, coordinates: &mut [Val]) {
    let mut rest = x;
    for (i, &l) in loops.iter().enumerate().rev() {
        if i == 0 {
            coordinates[l] = rest;
        } else {
            (rest, coordinates[l]) = k.div_rem(rest, c.space[l] as u32);
        }
    }
}

/// One factor, as a block loads it.
struct Side<'a> {
    access: &'a Access,
    param: u32,
    start: u32,
    width: u32,
    line: Val,
    depth: Val,
    at: Val,
    limit: u32,
    lines: &'a [usize],
}

impl Side<'_> {
    /// The element at depth `at`, zero outside.
    fn load(&self, k: &mut Writer, c: &Contraction, mine: &[Val], at: Val, depth: u32, inner: &[usize]) -> Val {
        let mut loops = mine.to_vec();
        split(k, at, inner, c, &mut loops);
        let (end, limit) = (k.int(i64::from(depth), Ty::U32), k.int(i64::from(self.limit), Ty::U32));
        let (deep, wide) = (k.compare(Cmp::Lt, at, end), k.compare(Cmp::Lt, self.at, limit));
        let mut inside = k.op(Ty::Pred, Op::And, &[deep, wide]);
        let mut offset = k.int(self.access.offset as i64, Ty::S32);
        for d in &self.access.dims {
            let mut index = k.int(d.index.offset, Ty::S32);
            for &(l, factor) in &d.index.terms {
                let factor = k.int(factor, Ty::S32);
                let term = k.mul(Val { ty: Ty::S32, ..loops[usize::from(l)] }, factor);
                index = k.add(index, term);
            }
            if d.index.divisor > 1 {
                let (quotient, remainder) = k.div_rem(Val { ty: Ty::U32, ..index }, d.index.divisor as u32);
                let zero = k.int(0, Ty::U32);
                let whole = k.compare(Cmp::Eq, remainder, zero);
                let negative = k.int(-1, Ty::S32);
                let positive = k.compare(Cmp::Lt, negative, index);
                let exact = k.op(Ty::Pred, Op::And, &[whole, positive]);
                inside = k.op(Ty::Pred, Op::And, &[inside, exact]);
                index = Val { ty: Ty::S32, ..quotient };
            }
            // As an unsigned number a negative index is beyond every extent.
            let extent = k.int(d.extent as i64, Ty::U32);
            let within = k.compare(Cmp::Lt, Val { ty: Ty::U32, ..index }, extent);
            inside = k.op(Ty::Pred, Op::And, &[inside, within]);
            let stride = k.int(d.stride, Ty::S32);
            let term = k.mul(index, stride);
            offset = k.add(offset, term);
        }
        let zero = k.float(0.0, Ty::F32);
        let value = k.variable(zero);
        k.when(inside, |k| {
            let (mem, ty) = scalar::memory(c.dtype);
            let address = k.element(self.param, offset, c.dtype.bytes());
            let loaded = k.load(mem, ty, address, 1)[0];
            let loaded = scalar::widen(k, loaded, c.dtype);
            k.assign(value, loaded);
        });
        value
    }
}

/// Stores what the epilogue makes of a sum.
fn store(k: &mut Writer, c: &Contraction, sum: Val, point: &[Val]) -> Result<(), Unsupported> {
    let place = |k: &mut Writer, view: &View| {
        let mut at = k.int(view.offset as i64, Ty::S32);
        for (&p, &stride) in point.iter().zip(&view.strides) {
            let stride = k.int(stride, Ty::S32);
            let term = k.mul(Val { ty: Ty::S32, ..p }, stride);
            at = k.add(at, term);
        }
        at
    };
    let mut inputs = vec![sum];
    for (i, extra) in c.extras.iter().enumerate() {
        let at = place(k, &extra.view);
        let (mem, ty) = scalar::memory(extra.dtype);
        let address = k.element(2 + i as u32, at, extra.dtype.bytes());
        let loaded = k.load(mem, ty, address, 1)[0];
        inputs.push(scalar::widen(k, loaded, extra.dtype));
    }
    let mut coordinate = |_: &mut Writer, d: usize| point[d];
    let value = scalar::emit(k, &c.epilogue, &inputs, &mut coordinate)?[0];
    let value = scalar::narrow(k, value, c.out.dtype);
    let at = place(k, &c.out.view);
    let address = k.element(2 + c.extras.len() as u32, at, c.out.dtype.bytes());
    k.store(scalar::memory(c.out.dtype).0, address, &[value]);
    Ok(())
}
