//! Operations on bits.

use crate::ptx::{Cmp, Half, Op, Ty};
use half::{bf16, f16};

/// The result of an operation on bits.
pub fn compute(op: Op, ty: Ty, a: &[u64]) -> u64 {
    let f = |i: usize| f32::from_bits(a[i] as u32);
    let g = |i: usize| f64::from_bits(a[i]);
    let single = |x: f32| u64::from(x.to_bits());
    match (op, ty) {
        (Op::Compare(c, of), _) => u64::from(compare(c, of, a[0], a[1])),
        (Op::Convert(from), _) => convert(from, ty, a[0]),
        (Op::FromHalf, Ty::F64) => f16::from_bits(a[0] as u16).to_f64().to_bits(),
        (Op::FromHalf, _) => single(f16::from_bits(a[0] as u16).to_f32()),
        (Op::ToHalf, _) => u64::from(f16::from_f32(f(0)).to_bits()),
        (Op::Pack(h), _) => u64::from(narrow(h, f(0))) << 16 | u64::from(narrow(h, f(1))),
        (Op::LowHalf, _) => a[0] & 0xffff,
        (Op::HighHalf, _) => a[0] >> 16 & 0xffff,
        (Op::ToTf32, _) => single(wpk_plan::number::tf32(f(0))),
        (Op::Exp2, _) => single(flushed(f(0).exp2())),
        (Op::Recip, _) => single(flushed(1.0 / f(0))),
        (Op::Select, _) => {
            if a[2] != 0 {
                a[0]
            } else {
                a[1]
            }
        }
        (Op::Set | Op::Mov | Op::Bits(_), _) => a[0],
        (Op::MulHi, _) => (u64::from(a[0] as u32) * u64::from(a[1] as u32)) >> 32,
        (Op::MulWide, Ty::S64) => (i64::from(a[0] as i32) * i64::from(a[1] as i32)) as u64,
        (Op::MulWide, _) => u64::from(a[0] as u32) * u64::from(a[1] as u32),
        (op, Ty::F32) => single(match op {
            Op::Add => f(0) + f(1),
            Op::Sub => f(0) - f(1),
            Op::Mul => f(0) * f(1),
            Op::Fma => f(0).mul_add(f(1), f(2)),
            Op::Div => f(0) / f(1),
            Op::Max | Op::Min if f(0).is_nan() || f(1).is_nan() => f32::NAN,
            Op::Max => f(0).max(f(1)),
            Op::Min => f(0).min(f(1)),
            Op::Sqrt => f(0).sqrt(),
            Op::Abs => f(0).abs(),
            Op::Neg => -f(0),
            Op::Round => f(0).round_ties_even(),
            Op::Floor => f(0).floor(),
            Op::Ceil => f(0).ceil(),
            _ => f32::NAN,
        }),
        (op, Ty::F64) => match op {
            Op::Add => g(0) + g(1),
            Op::Sub => g(0) - g(1),
            Op::Mul => g(0) * g(1),
            Op::Fma => g(0).mul_add(g(1), g(2)),
            Op::Div => g(0) / g(1),
            Op::Sqrt => g(0).sqrt(),
            Op::Abs => g(0).abs(),
            Op::Neg => -g(0),
            Op::Round => g(0).round_ties_even(),
            Op::Floor => g(0).floor(),
            Op::Ceil => g(0).ceil(),
            _ => f64::NAN,
        }
        .to_bits(),
        (op, ty) => integer(op, ty, a),
    }
}

fn narrow(h: Half, x: f32) -> u16 {
    match h {
        Half::F16 => f16::from_f32(x).to_bits(),
        Half::Bf16 => bf16::from_f32(x).to_bits(),
    }
}

/// Subnormal results are zero.
fn flushed(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x }
}

/// A value of an integer type, with its sign.
fn signed(ty: Ty, bits: u64) -> i128 {
    match ty {
        Ty::S32 => i128::from(bits as u32 as i32),
        Ty::U32 => i128::from(bits as u32),
        Ty::S64 => i128::from(bits as i64),
        _ => i128::from(bits),
    }
}

fn integer(op: Op, ty: Ty, a: &[u64]) -> u64 {
    let x = |i: usize| signed(ty, a[i]);
    let wide = matches!(ty, Ty::S64 | Ty::U64);
    let shift = a.get(1).map_or(0, |s| (*s as u32).min(if wide { 64 } else { 32 }));
    let result = match op {
        Op::Add => x(0) + x(1),
        Op::Sub => x(0) - x(1),
        Op::Mul => x(0).wrapping_mul(x(1)),
        // Hardware leaves a quotient by zero open; generated code selects it away.
        Op::Div => x(0).checked_div(x(1)).unwrap_or(-1),
        Op::Max => x(0).max(x(1)),
        Op::Min => x(0).min(x(1)),
        Op::Abs => x(0).abs(),
        Op::Neg => -x(0),
        Op::And => i128::from(a[0] & a[1]),
        Op::Or => i128::from(a[0] | a[1]),
        Op::Xor => i128::from(a[0] ^ a[1]),
        Op::Shl => x(0) << shift,
        Op::Shr => x(0) >> shift,
        _ => 0,
    };
    if wide || matches!(ty, Ty::Pred | Ty::B16) { result as u64 } else { u64::from(result as u32) }
}

fn compare(c: Cmp, ty: Ty, a: u64, b: u64) -> bool {
    let float = match ty {
        Ty::F32 => Some((f64::from(f32::from_bits(a as u32)), f64::from(f32::from_bits(b as u32)))),
        Ty::F64 => Some((f64::from_bits(a), f64::from_bits(b))),
        _ => None,
    };
    match (c, float) {
        (Cmp::Eq, Some((x, y))) => x == y,
        (Cmp::Lt, Some((x, y))) => x < y,
        (Cmp::Le, Some((x, y))) => x <= y,
        (Cmp::Nan, Some((x, y))) => x.is_nan() || y.is_nan(),
        (Cmp::Eq, None) => signed(ty, a) == signed(ty, b),
        (Cmp::Lt, None) => signed(ty, a) < signed(ty, b),
        (Cmp::Le, None) => signed(ty, a) <= signed(ty, b),
        (Cmp::Nan, None) => false,
    }
}

fn convert(from: Ty, to: Ty, bits: u64) -> u64 {
    let float = match from {
        Ty::F32 => Some(f64::from(f32::from_bits(bits as u32))),
        Ty::F64 => Some(f64::from_bits(bits)),
        _ => None,
    };
    match (float, to) {
        (Some(x), Ty::F32) => u64::from((x as f32).to_bits()),
        (Some(x), Ty::F64) => x.to_bits(),
        (Some(x), Ty::S32) => u64::from(x as i32 as u32),
        (Some(x), Ty::U32) => u64::from(x as u32),
        (Some(x), Ty::S64) => x as i64 as u64,
        (Some(x), _) => x as u64,
        (None, Ty::F32) => u64::from((signed(from, bits) as f32).to_bits()),
        (None, Ty::F64) => (signed(from, bits) as f64).to_bits(),
        (None, Ty::S64 | Ty::U64) => signed(from, bits) as u64,
        (None, _) => u64::from(bits as u32),
    }
}
