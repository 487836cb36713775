//! The largest or smallest along an axis, in order: a thread for each element counts those that come before it, which is its place. No
//! thread waits for another, and equal elements keep their order.

use super::{Unsupported, scalar};
use crate::arch::Arch;
use crate::dsl::{Val, Writer};
use crate::ptx::{Kernel, Ty};
use crate::schedule::{Schedule, schedule};
use wpk_plan::problem::TopK;
use wpk_plan::{Binary, DType, ScalarFn, Unary};

schedule! {
    /// How elements are put in order.
    Ranks(TopK => Facts) = "ranks" {
        /// Threads of a block.
        threads: [32, 64, 128, 256],
    }
}

/// What a schedule of such a problem depends on.
pub struct Facts {
    elements: usize,
    n: usize,
    small: bool,
    arch: Arch,
}

impl Facts {
    fn of(p: &TopK, arch: &Arch) -> Self {
        let elements = p.outer * p.n * p.inner;
        let small = (1..1 << 30).contains(&elements) && p.k > 0 && p.dtype != DType::Text;
        Self { elements, n: p.n, small, arch: *arch }
    }
}

impl Ranks {
    fn fits(&self, f: &Facts) -> bool {
        f.small
    }

    fn estimate(&self, f: &Facts) -> f64 {
        let blocks = f.elements.div_ceil(self.threads as usize) as f64;
        let busy = (blocks / f64::from(f.arch.sms)).ceil() * f64::from(self.threads) / 32.0;
        1500.0 + f.n as f64 * (4.0 * busy).max(10.0) / 1.7
    }
}

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
    let mut k = Writer::for_arch(arch);
    let thread = k.thread(s.threads);
    let inside = k.below(thread, facts.elements as i64);
    let mut result = Ok(());
    k.when(inside, |k| result = place(k, p, thread));
    result?;
    Ok(k.finish("ranks", 3, s.threads, (facts.elements as u32).div_ceil(s.threads)))
}

fn place(k: &mut Writer, p: &TopK, thread: Val) -> Result<(), Unsupported> {
    let (rest, element) = k.div_rem(thread, p.inner as u32);
    let (line, own) = k.div_rem(rest, p.n as u32);
    let first = k.scaled(line, (p.n * p.inner) as i64);
    let first = k.add(first, element);
    let read = |k: &mut Writer, i: Val| {
        let moved = k.scaled(i, p.inner as i64);
        let at = k.add(first, moved);
        let address = k.element(0, Val { ty: Ty::S32, ..at }, p.dtype.bytes());
        scalar::load_neighbours(k, p.dtype, address, 0, 1)[0]
    };
    let value = read(k, own);
    let before = before(p);
    let zero = k.int(0, Ty::S32);
    let rank = k.variable(zero);
    let mut result = Ok(());
    let mut count = |k: &mut Writer, i: Val| {
        let x = read(k, i);
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
