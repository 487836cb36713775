//! How tensor cores multiply: the types of factors, and `f32` as sums of parts that they can take.

use super::fragments::{Fragments, Side};
use crate::dsl::{Val, Writer};
use crate::ptx::{Factor, Half, Op, Ty};
use wpk_plan::DType;

/// How factors are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Half(Half),
    Tf32,
    /// Whole numbers of eight bits, sums of 32.
    Bytes,
    /// Each factor as the sum of three parts in bfloat16, which hold all its 24 bits; of their nine products the six that count
    /// (G. Henry, P. T. P. Tang, A. Heinecke: Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
    /// Computations, 2019).
    Parts,
}

impl Mode {
    /// For factors of a type, which may be rounded to TF32 or not.
    pub fn of(dtype: DType, tf32: bool) -> Option<Self> {
        match (dtype, tf32) {
            (DType::F16, _) => Some(Self::Half(Half::F16)),
            (DType::BF16, _) => Some(Self::Half(Half::Bf16)),
            (DType::I8, _) => Some(Self::Bytes),
            (DType::F32, true) => Some(Self::Tf32),
            (DType::F32, false) => Some(Self::Parts),
            _ => None,
        }
    }

    pub fn factor(self) -> Factor {
        match self {
            Self::Half(h) => Factor::Half(h),
            Self::Tf32 => Factor::Tf32,
            Self::Bytes => Factor::Bytes,
            Self::Parts => Factor::Half(Half::Bf16),
        }
    }

    /// Products on tensor cores for each that is wanted, by step of 32 bytes of depth.
    pub fn products(self) -> u32 {
        if self == Self::Parts { 3 } else { 1 }
    }

    /// Steps of 32 bytes of depth that one product takes.
    pub fn steps(self) -> u32 {
        if self == Self::Parts { 2 } else { 1 }
    }

    /// A block of 16 lines for product `at` of a depth of `count` steps; what is beyond them is zero.
    pub fn read(self, k: &mut Writer, from: (&Fragments, &[Val]), (at, count): (u32, u32), block: u32, rounded: bool) -> Words {
        let (fragments, bases) = from;
        let steps: Vec<Vec<Val>> = (at * self.steps()..(at + 1) * self.steps())
            .map(|step| if step < count { fragments.read(k, bases, step, block) } else { vec![k.int(0, Ty::U32); 4] })
            .collect();
        self.words(k, fragments.side(), &steps, rounded)
    }

    /// The words of a block as tensor cores take them, from those of each step: rounded unless they were, or in parts.
    pub fn words(self, k: &mut Writer, side: Side, steps: &[Vec<Val>], rounded: bool) -> Words {
        match self {
            Self::Parts => parts(k, side, steps),
            Self::Tf32 if !rounded => {
                let round = |&word: &Val| {
                    let x = k.op(Ty::F32, Op::Bits(Ty::U32), &[word]);
                    k.op(Ty::U32, Op::ToTf32, &[x])
                };
                vec![steps[0].iter().map(round).collect()]
            }
            _ => vec![steps[0].clone()],
        }
    }
}

/// Four words by part of a factor, the largest part first.
pub type Words = Vec<Vec<Val>>;

/// Two steps of `f32` as words of two numbers each. Which depths share a word is free, as long as both factors agree: those that a lane
/// holds.
fn parts(k: &mut Writer, side: Side, steps: &[Vec<Val>]) -> Words {
    let pairs = match side {
        Side::Rows => [(0, [0, 2]), (0, [1, 3]), (1, [0, 2]), (1, [1, 3])],
        Side::Columns => [(0, [0, 1]), (1, [0, 1]), (0, [2, 3]), (1, [2, 3])],
    };
    let mut words: Words = vec![vec![]; 3];
    for (step, pair) in pairs {
        let mut rest = pair.map(|i: usize| k.op(Ty::F32, Op::Bits(Ty::U32), &[steps[step][i]]));
        for (i, part) in words.iter_mut().enumerate() {
            part.push(part_of(k, &mut rest, i < 2));
        }
    }
    words
}

/// The next part of two numbers as a word, and, where more are wanted, what it leaves of them, which is exact. Of what is infinite, or becomes
/// so, it is no number.
pub fn part_of(k: &mut Writer, rest: &mut [Val; 2], more: bool) -> Val {
    let word = k.op(Ty::U32, Op::Pack(Half::Bf16), &[rest[1], rest[0]]);
    if more {
        let (sixteen, high) = (k.int(16, Ty::U32), k.int(0xffff_0000, Ty::U32));
        let halves = [k.op(Ty::U32, Op::Shl, &[word, sixteen]), k.op(Ty::U32, Op::And, &[word, high])];
        for (x, bits) in rest.iter_mut().zip(halves) {
            let value = k.op(Ty::F32, Op::Bits(Ty::U32), &[bits]);
            *x = k.sub(*x, value);
        }
    }
    word
}

/// `sums += rows * columns` for blocks of 16 rows and block `at` of `count` blocks of 16 columns; four sums for 16 rows and 8 columns,
/// columns fastest. Products of small parts come first, so that the little that tensor cores cut off at every addition is cut off small
/// sums.
pub fn multiply(k: &mut Writer, mode: Mode, rows: &[Words], columns: &Words, (at, count): (u32, u32), sums: &[Val]) {
    let most = columns.len() - 1;
    for smallness in (0..=most).rev() {
        for of_row in 0..=smallness {
            for (i, a) in rows.iter().enumerate() {
                for half in 0..2 {
                    let b = &columns[smallness - of_row][2 * half..2 * half + 2];
                    let first = 4 * (2 * (i * count as usize + at as usize) + half);
                    k.mma(mode.factor(), &sums[first..first + 4], &a[of_row], b);
                }
            }
        }
    }
}
