//! What operators share whose results have as many elements as their data say.

use crate::graph::{Bound, Builder, Linear, Literal, Op, Outcome, ValueId};
use wpk_plan::{Binary, DType};

/// Elements of which some may be counted.
const MOST: usize = 1 << 24;

/// Where a vector of truth values is true: as many positions as it is long, and how many of them count; zeros follow.
///
/// The position of the `j`th is how many running sums are at most `j`, found by halving steps for all at once, so that any device computes it.
pub fn positions(b: &mut Builder, flags: ValueId) -> Outcome<(ValueId, ValueId)> {
    let n = b.shape(flags)[0];
    within(n)?;
    let ones = b.cast(flags, DType::I64)?;
    let sums = b.one(Op::Scan { axis: 0, product: false, exclusive: false, reverse: false }, &[ones])?;
    let last = b.range(sums, 0, n - 1, 1)?;
    let count = b.reshape(last, &[])?;
    let wanted = b.constant(Literal::ints(DType::I64, &[n], &(0..n as i64).collect::<Vec<_>>()));
    let mut found = b.constant(Literal::ints(DType::I64, &[n], &vec![0; n]));
    let mut step = n.next_power_of_two();
    while step > 0 {
        let place = b.map(&[found], |f, i| {
            let (step, last) = (f.integer(step as i64 - 1, DType::I64), f.integer(n as i64 - 1, DType::I64));
            let at = f.binary(Binary::Add, i[0], step);
            f.binary(Binary::Min, at, last)
        })?;
        let sum = b.one(Op::Gather { axis: 0 }, &[sums, place])?;
        found = b.map(&[found, sum, wanted], |f, i| {
            let (step, end) = (f.integer(step as i64, DType::I64), f.integer(n as i64, DType::I64));
            let next = f.binary(Binary::Add, i[0], step);
            let (within, before) = (f.binary(Binary::Le, next, end), f.binary(Binary::Le, i[1], i[2]));
            let moves = f.binary(Binary::And, within, before);
            f.select(moves, next, i[0])
        })?;
        step /= 2;
    }
    let found = b.map(&[found, count, wanted], |f, i| {
        let (counts, zero) = (f.binary(Binary::Lt, i[2], i[1]), f.integer(0, DType::I64));
        f.select(counts, i[0], zero)
    })?;
    Ok((found, count))
}

/// Refuses no elements, and too many.
pub fn within(n: usize) -> Outcome<()> {
    if (1..=MOST).contains(&n) { Ok(()) } else { Err(format!("{n} elements cannot be counted at run time: 1 to {MOST} can")) }
}

/// A value whose dimension `axis` has only as many elements as are counted.
pub fn of(b: &mut Builder, v: ValueId, axis: usize, count: ValueId) -> ValueId {
    let extent = b.shape(v)[axis];
    let count = b.count(count, 0, extent);
    b.bound(v, &[Bound::first(axis, Linear::of(count), extent)])
}

/// Operators whose importers compute nothing from extents, so that an input may have as many elements as data say.
const FREE_OF_EXTENTS: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "Cast",
    "CastLike",
    "Ceil",
    "Clip",
    "Compress",
    "Concat",
    "Cos",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gather",
    "Gelu",
    "Gemm",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "MatMul",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "NonZero",
    "Not",
    "Or",
    "Pow",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Relu",
    "Round",
    "Shape",
    "Sigmoid",
    "Sign",
    "Sin",
    "Size",
    "Slice",
    "Softmax",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
    "Xor",
];

/// Whether an operator is imported alike whatever the extents of its inputs.
pub fn reads_no_extents(name: &str) -> bool {
    FREE_OF_EXTENTS.contains(&name)
}
