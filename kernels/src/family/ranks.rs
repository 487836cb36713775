//! The largest or smallest along an axis, in order: for each element is counted which come before it, which is its place; equal elements keep
//! their order. Elements of at most 32 bits become whole numbers that order as they do, which a block keeps in shared memory and several
//! threads count for each of its elements; of others a thread counts by itself.

use super::{Unsupported, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Kernel, MemTy, Op, Special, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::problem::TopK;
use wpk_plan::{Binary, DType, ScalarFn, Unary};

schedule! {
    /// How elements are put in order.
    Ranks(TopK => Facts) = "ranks" {
        /// Threads of a block.
        threads: [32, 64, 128, 256],
        /// Threads that count for an element.
        parts: [1, 2, 4, 8, 16],
    }
}

/// What a schedule of such a problem depends on.
pub struct Facts {
    elements: usize,
    n: usize,
    small: bool,
    keyed: bool,
    arch: Arch,
}

impl Facts {
    fn of(p: &TopK, arch: &Arch) -> Self {
        let elements = p.outer * p.n * p.inner;
        let small = (1..1 << 30).contains(&elements) && p.k > 0 && p.dtype != DType::Text;
        Self { elements, n: p.n, small, keyed: keyed(p.dtype), arch: *arch }
    }
}

impl Ranks {
    fn fits(&self, f: &Facts) -> bool {
        f.small && (f.keyed || self.parts == 1)
    }

    /// Blocks of a line.
    fn blocks(&self, n: usize) -> usize {
        n.div_ceil((self.threads / self.parts) as usize)
    }

    fn estimate(&self, f: &Facts) -> f64 {
        let (n, warps) = (f.n as f64, f64::from(self.threads) / 32.0);
        if !f.keyed {
            let blocks = f.elements.div_ceil(self.threads as usize) as f64;
            let busy = (blocks / f64::from(f.arch.sms)).ceil() * warps;
            // As measured: a comparison takes a warp some seventy cycles, and hides behind few others.
            return 1500.0 + n * (16.0 * busy).max(70.0) / 1.7;
        }
        let blocks = (f.elements / f.n.max(1) * self.blocks(f.n)) as f64;
        let own = n / f64::from(self.parts) * 3.5 + n / f64::from(self.threads) * 20.0;
        let busy = (blocks / f64::from(f.arch.sms)).ceil() * warps;
        1800.0 + (own * busy / 4.0).max(2.5 * own) / 1.7
    }
}

/// Whether elements become whole numbers of 32 bits that leave room above.
fn keyed(dtype: DType) -> bool {
    dtype.bytes() <= 2 && dtype != DType::Text || dtype == DType::F32
}

/// Numbers in shared memory at once.
const TILE: usize = 2048;
/// Elements that are compared at once.
const UNROLLED: usize = 4;

/// The kernel; its parameters are the input, the values and their positions.
///
/// # Errors
/// Where the schedule does not fit.
pub fn ranks(p: &TopK, s: &Ranks, arch: &Arch) -> Result<Kernel, Unsupported> {
    let facts = Facts::of(p, arch);
    if !s.legal(&facts) {
        return Err(Unsupported(format!("{s} does not fit an order of {}", p.dtype)));
    }
    if facts.keyed {
        return Ok(counted(p, s, arch));
    }
    let mut k = Writer::for_arch(arch);
    let thread = k.thread(s.threads);
    let inside = k.below(thread, facts.elements as i64);
    let mut result = Ok(());
    k.when(inside, |k| result = place(k, p, thread));
    result?;
    Ok(k.finish("ranks", 3, s.threads, (facts.elements as u32).div_ceil(s.threads)))
}

/// The element at a place of a line that begins at `first`.
fn read(k: &mut Writer, p: &TopK, first: Val, i: Val) -> Val {
    let moved = k.scaled(i, p.inner as i64);
    let at = k.add(first, moved);
    let address = k.element(0, Val { ty: Ty::S32, ..at }, p.dtype.bytes());
    scalar::load_neighbours(k, p.dtype, address, 0, 1)[0]
}

/// A number for an element: less for what comes first, less than the largest there is by two.
fn key(k: &mut Writer, p: &TopK, x: Val) -> Val {
    let key = if x.ty == Ty::F32 {
        // Zeros of both signs are equal, and what is no number is larger than all that are.
        let zero = k.float(0.0, Ty::F32);
        let sum = k.op(Ty::F32, Op::Add, &[x, zero]);
        let bits = k.op(Ty::S32, Op::Bits(Ty::F32), &[sum]);
        let (sign, rest) = (k.int(31, Ty::U32), k.int(0x7fff_ffff, Ty::S32));
        let flips = k.op(Ty::S32, Op::Shr, &[bits, sign]);
        let flips = k.op(Ty::S32, Op::And, &[flips, rest]);
        let ordered = k.op(Ty::S32, Op::Xor, &[bits, flips]);
        let (nan, above) = (k.compare(Cmp::Nan, x, x), k.int(0x7f80_0001, Ty::S32));
        k.select(nan, above, ordered)
    } else {
        Val { ty: Ty::S32, ..x }
    };
    let all = k.int(-1, Ty::S32);
    if p.largest { k.op(Ty::S32, Op::Xor, &[key, all]) } else { key }
}

fn counted(p: &TopK, s: &Ranks, arch: &Arch) -> Kernel {
    let mut k = Writer::for_arch(arch);
    let (blocks, own_count) = (s.blocks(p.n) as u32, s.threads / s.parts);
    let block = k.op(Ty::U32, Op::Special(Special::Block), &[]);
    let thread = k.op(Ty::U32, Op::Special(Special::Thread), &[]);
    let (line, group) = k.div_rem(block, blocks);
    let (row, element) = k.div_rem(line, p.inner as u32);
    let first = k.scaled(row, (p.n * p.inner) as i64);
    let first = k.add(first, element);
    let (mine, part) = k.div_rem(thread, s.parts);
    let moved = k.scaled(group, i64::from(own_count));
    let own = k.add(moved, mine);
    let exists = k.below(own, p.n as i64);
    // Threads without an element count for the last one, and keep it to themselves.
    let last = k.int(p.n as i64 - 1, Ty::U32);
    let at = k.select(exists, own, last);
    let value = read(&mut k, p, first, at);
    let own_key = key(&mut k, p, value);
    let (own_chunk, _) = k.div_rem(own, CHUNK);
    let one = k.plus(own_key, 1);
    let zero = k.int(0, Ty::S32);
    let rank = k.variable(zero);
    let tile = TILE.min(p.n.next_multiple_of((CHUNK * s.parts) as usize));
    let keys = k.shared(4 * tile as u32);
    let chunks = (tile as u32) / (CHUNK * s.parts);
    k.repeat(p.n.div_ceil(tile) as u32, |k, number| {
        let begin = k.scaled(number, tile as i64);
        k.repeat((tile as u32).div_ceil(s.threads), |k, turn| {
            let moved = k.scaled(turn, i64::from(s.threads));
            let to = k.add(moved, thread);
            let from = k.add(begin, to);
            let none = k.int(i64::from(i32::MAX), Ty::S32);
            let found = k.variable(none);
            let inside = k.below(from, p.n as i64);
            k.when(inside, |k| {
                let x = read(k, p, first, from);
                let key = key(k, p, x);
                k.assign(found, key);
            });
            let room = k.below(to, tile as i64);
            k.when(room, |k| {
                let at = k.scaled(to, 4);
                let at = k.add(keys, at);
                k.store(MemTy::B32, at, &[found]);
            });
        });
        k.barrier();
        k.repeat(chunks, |k, turn| {
            let chunk = k.scaled(turn, i64::from(s.parts));
            let chunk = k.add(chunk, part);
            let at = k.scaled(chunk, i64::from(4 * CHUNK));
            let at = k.add(keys, at);
            let four = k.load(MemTy::B32, Ty::S32, at, CHUNK as usize);
            // Equal ones in chunks before the own come first.
            let (here, _) = k.div_rem(begin, CHUNK);
            let here = k.add(here, chunk);
            let earlier = k.compare(Cmp::Lt, here, own_chunk);
            let limit = k.select(earlier, one, own_key);
            for x in four {
                let (before, one, none) = (k.compare(Cmp::Lt, x, limit), k.int(1, Ty::S32), k.int(0, Ty::S32));
                let counts = k.select(before, one, none);
                let next = k.add(rank, counts);
                k.assign(rank, next);
            }
        });
        k.barrier();
    });
    let mut mask = 1;
    while mask < s.parts {
        let other = k.op(Ty::S32, Op::ShuffleXor(mask), &[rank]);
        let next = k.add(rank, other);
        k.assign(rank, next);
        mask *= 2;
    }
    let writes = k.compare(Cmp::Eq, part, Val { ty: Ty::U32, ..zero });
    let writes = k.both(Some(writes), Some(exists)).unwrap_or(exists);
    k.when(writes, |k| {
        // And those before it in its own.
        let begin = k.scaled(own_chunk, i64::from(CHUNK));
        k.repeat(CHUNK - 1, |k, i| {
            let i = k.add(begin, i);
            let earlier = k.compare(Cmp::Lt, i, own);
            k.when(earlier, |k| {
                let x = read(k, p, first, i);
                let key = key(k, p, x);
                let (equal, one, none) = (k.compare(Cmp::Eq, key, own_key), k.int(1, Ty::S32), k.int(0, Ty::S32));
                let counts = k.select(equal, one, none);
                let next = k.add(rank, counts);
                k.assign(rank, next);
            });
        });
        put(k, p, (row, element), rank, (value, own));
    });
    k.finish("ranks", 3, s.threads, (p.outer * p.inner) as u32 * blocks)
}

/// Neighbouring numbers that are compared at once.
const CHUNK: u32 = 4;

/// Stores an element and its position at its place, where that is wanted.
fn put(k: &mut Writer, p: &TopK, (line, element): (Val, Val), rank: Val, (value, own): (Val, Val)) {
    let wanted = k.below(rank, p.k as i64);
    k.when(wanted, |k| {
        let line = k.scaled(line, p.k as i64);
        let to = k.add(Val { ty: Ty::S32, ..line }, rank);
        let to = k.scaled(to, p.inner as i64);
        let to = k.add(to, Val { ty: Ty::S32, ..element });
        let address = k.element(1, to, p.dtype.bytes());
        scalar::store_neighbours(k, p.dtype, address, 0, &[value]);
        let address = k.element(2, to, DType::I64.bytes());
        let position = scalar::convert(k, own, Ty::S64);
        scalar::store_neighbours(k, DType::I64, address, 0, &[position]);
    });
}

fn place(k: &mut Writer, p: &TopK, thread: Val) -> Result<(), Unsupported> {
    let (rest, element) = k.div_rem(thread, p.inner as u32);
    let (line, own) = k.div_rem(rest, p.n as u32);
    let first = k.scaled(line, (p.n * p.inner) as i64);
    let first = k.add(first, element);
    let value = read(k, p, first, own);
    let before = before(p);
    let zero = k.int(0, Ty::S32);
    let rank = k.variable(zero);
    let mut result = Ok(());
    let mut count = |k: &mut Writer, i: Val| {
        let x = read(k, p, first, i);
        let signed = |v: Val| Val { ty: Ty::S32, ..v };
        match scalar::emit(k, &before, &[x, value, signed(i), signed(own)], &mut |k, _| k.int(0, Ty::U32)) {
            Ok(found) => {
                let next = k.add(rank, found[0]);
                k.assign(rank, next);
            }
            Err(e) => result = Err(e),
        }
    };
    let (groups, left) = (p.n / UNROLLED, p.n % UNROLLED);
    if groups > 0 {
        k.repeat(groups as u32, |k, group| {
            let first = k.scaled(group, UNROLLED as i64);
            for i in 0..UNROLLED {
                let i = k.plus(first, i as i64);
                count(k, i);
            }
        });
    }
    for i in p.n - left..p.n {
        let i = k.int(i as i64, Ty::U32);
        count(k, i);
    }
    result?;
    put(k, p, (line, element), rank, (value, own));
    Ok(())
}

/// Whether an element at a position comes before another at another; what is no number is larger than all that are.
fn before(p: &TopK) -> ScalarFn {
    let mut f = ScalarFn::default();
    let [x, y] = [0, 1].map(|i| f.input(i, p.dtype));
    let [i, j] = [2, 3].map(|i| f.input(i, DType::I32));
    let mut ahead = |x: u16, y: u16| {
        let (low, high) = if p.largest { (y, x) } else { (x, y) };
        let less = f.binary(Binary::Lt, low, high);
        if !p.dtype.is_float() {
            return less;
        }
        let (not, number) = (f.unary(Unary::IsNan, high), f.unary(Unary::IsNan, low));
        let number = f.unary(Unary::Not, number);
        let beyond = f.binary(Binary::And, not, number);
        f.binary(Binary::Or, less, beyond)
    };
    let (ahead, behind) = (ahead(x, y), ahead(y, x));
    let equal = f.unary(Unary::Not, behind);
    let first = f.binary(Binary::Lt, i, j);
    let first = f.binary(Binary::And, equal, first);
    f.outputs = vec![f.binary(Binary::Or, ahead, first)];
    f
}
