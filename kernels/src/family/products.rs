//! How tensor cores multiply: the types of factors, and `f32` as sums of parts that they can take.

use crate::dsl::{Val, Writer};
use crate::ptx::{Factor, Half, Op, Ty};
use wpk_plan::DType;

/// How factors are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Half(Half),
    Tf32,
    /// Each factor as the sum of two parts.
    Parts,
}

impl Mode {
    /// For factors of a type, which may be rounded to TF32 or not.
    pub fn of(dtype: DType, tf32: bool) -> Option<Self> {
        match (dtype, tf32) {
            (DType::F16, _) => Some(Self::Half(Half::F16)),
            (DType::BF16, _) => Some(Self::Half(Half::Bf16)),
            (DType::F32, true) => Some(Self::Tf32),
            (DType::F32, false) => Some(Self::Parts),
            _ => None,
        }
    }

    pub fn factor(self) -> Factor {
        match self {
            Self::Half(h) => Factor::Half(h),
            Self::Tf32 | Self::Parts => Factor::Tf32,
        }
    }

    /// Products on tensor cores for each that is wanted.
    pub fn products(self) -> u32 {
        if self == Self::Parts { 3 } else { 1 }
    }

    /// Words as tensor cores take them: rounded unless they were, and what rounding left where that counts.
    pub fn split(self, k: &mut Writer, words: Vec<Val>, rounded: bool) -> [Vec<Val>; 2] {
        if matches!(self, Self::Half(_)) || rounded {
            return [words, vec![]];
        }
        let (mut large, mut small) = (vec![], vec![]);
        let keep = k.int(i64::from(!0x1fff_u32), Ty::U32);
        for word in words {
            let x = k.op(Ty::F32, Op::Bits(Ty::U32), &[word]);
            if self == Self::Tf32 {
                large.push(k.op(Ty::U32, Op::ToTf32, &[x]));
                continue;
            }
            // Half a unit is added and the rest cut off, which is nothing to what is no number: what rounding leaves keeps that.
            let up = k.plus(word, 0x1000);
            let rounded = k.op(Ty::U32, Op::And, &[up, keep]);
            large.push(rounded);
            let value = k.op(Ty::F32, Op::Bits(Ty::U32), &[rounded]);
            let rest = k.sub(x, value);
            let rest = k.op(Ty::U32, Op::Bits(Ty::F32), &[rest]);
            small.push(k.op(Ty::U32, Op::And, &[rest, keep]));
        }
        [large, small]
    }
}

/// `sums += rows * columns` for blocks of 16 rows and of 16 columns at one step of 32 bytes of depth, each with its rounded words
/// and what rounding left; four sums for 16 rows and 8 columns, columns fastest. What rounding left comes first, so that the
/// little that tensor cores cut off at every addition is cut off small sums.
pub fn multiply(k: &mut Writer, mode: Mode, rows: &[[Vec<Val>; 2]], columns: &[[Vec<Val>; 2]], sums: &[Val]) {
    let small = if mode == Mode::Parts { [Some((1, 0)), Some((0, 1))] } else { [None; 2] };
    for (of_row, of_column) in small.into_iter().flatten().chain([(0, 0)]) {
        for (i, a) in rows.iter().enumerate() {
            for j in 0..2 * columns.len() {
                let b = &columns[j / 2][of_column][2 * (j % 2)..2 * (j % 2) + 2];
                let at = 4 * (i * 2 * columns.len() + j);
                k.mma(mode.factor(), &sums[at..at + 4], &a[of_row], b);
            }
        }
    }
}
