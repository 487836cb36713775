//! Scalar functions in the DSL. Booleans are 0 or 1 in 32-bit registers, half types compute in `f32`.

use super::integer::{power, quotient, shifted, wrap};
use super::{Unsupported, double, math, minifloat};
use crate::dsl::{Val, Writer};
use crate::ptx::{Cmp, Half, MemTy, Op, Ty};
use wpk_plan::minifloat::Format;
use wpk_plan::{Binary, DType, Expr, ScalarFn, Unary};

/// The register type that computes values of an element type.
pub fn register(t: DType) -> Ty {
    match t {
        DType::F32 | DType::F16 | DType::BF16 => Ty::F32,
        _ if Format::of(t).is_some() => Ty::F32,
        DType::F64 => Ty::F64,
        DType::I64 => Ty::S64,
        DType::U64 => Ty::U64,
        DType::U32 => Ty::U32,
        _ => Ty::S32,
    }
}

/// The type of an element in memory, with the register type that loads it.
pub fn memory(t: DType) -> (MemTy, Ty) {
    match t {
        DType::F32 => (MemTy::F32, Ty::F32),
        DType::F64 => (MemTy::F64, Ty::F64),
        DType::F16 => (MemTy::B16, Ty::B16),
        DType::BF16 => (MemTy::U16, Ty::U32),
        DType::I64 | DType::U64 => (MemTy::B64, register(t)),
        DType::I32 | DType::U32 => (MemTy::B32, register(t)),
        DType::I16 => (MemTy::S16, Ty::S32),
        DType::U16 => (MemTy::U16, Ty::S32),
        DType::I8 | DType::I4 | DType::I2 => (MemTy::S8, Ty::S32),
        _ => (MemTy::U8, Ty::S32),
    }
}

/// A loaded element as a value to compute with.
pub fn widen(k: &mut Writer, v: Val, t: DType) -> Val {
    match t {
        DType::F16 => k.op(Ty::F32, Op::FromHalf, &[v]),
        DType::BF16 => {
            let shift = k.int(16, Ty::U32);
            let bits = k.op(Ty::U32, Op::Shl, &[v, shift]);
            k.op(Ty::F32, Op::Bits(Ty::U32), &[bits])
        }
        _ => Format::of(t).map_or(v, |format| minifloat::decode(k, format, v)),
    }
}

/// A value as an element to store.
pub fn narrow(k: &mut Writer, v: Val, t: DType) -> Val {
    match t {
        DType::F16 => k.op(Ty::B16, Op::ToHalf, &[v]),
        DType::BF16 => {
            // Round to nearest even on the bits; what is not a number stays so.
            let (sixteen, one, bias) = (k.int(16, Ty::U32), k.int(1, Ty::U32), k.int(0x7fff, Ty::U32));
            let bits = k.op(Ty::U32, Op::Bits(Ty::F32), &[v]);
            let high = k.op(Ty::U32, Op::Shr, &[bits, sixteen]);
            let odd = k.op(Ty::U32, Op::And, &[high, one]);
            let sum = k.add(bits, bias);
            let sum = k.add(sum, odd);
            let rounded = k.op(Ty::U32, Op::Shr, &[sum, sixteen]);
            let (quiet, nan) = (k.int(0x7fc0, Ty::U32), k.compare(Cmp::Nan, v, v));
            k.select(nan, quiet, rounded)
        }
        _ => Format::of(t).map_or(v, |format| minifloat::encode(k, format, v)),
    }
}

/// A number of `f32` as a type holds it.
pub fn rounded(k: &mut Writer, v: Val, t: DType) -> Val {
    let narrow = narrow(k, v, t);
    widen(k, narrow, t)
}

/// Instructions that a function takes by element, roughly.
pub fn cost(f: &ScalarFn) -> f64 {
    let of = |e: &Expr| match e {
        Expr::Input(_) | Expr::Const(_) => 0.0,
        Expr::Unary(Unary::Neg | Unary::Abs, _) => 1.0,
        Expr::Unary(Unary::GeluTanh | Unary::Erf | Unary::Tanh, _) => 22.0,
        Expr::Unary(Unary::Gelu, _) => 12.0,
        Expr::Unary(..) => 10.0,
        Expr::Binary(Binary::Div, ..) => 4.0,
        _ => 1.0,
    };
    f.insts.iter().map(|i| of(&i.expr)).sum()
}

fn half(t: DType) -> Option<Half> {
    match t {
        DType::F16 => Some(Half::F16),
        DType::BF16 => Some(Half::Bf16),
        _ => None,
    }
}

/// `n` neighbouring elements some bytes behind an address that is a multiple of all their bytes, or of 16, as values to
/// compute with.
pub fn load_neighbours(k: &mut Writer, t: DType, address: Val, offset: i32, n: usize) -> Vec<Val> {
    let words = load_words(k, t, address, offset, n);
    widened(k, t, &words, n)
}

/// The same as they lie in memory: pairs of halves in words, where there are some, else elements. [`widened`] makes values of them.
pub fn load_words(k: &mut Writer, t: DType, address: Val, offset: i32, n: usize) -> Vec<Val> {
    let (mem, raw) = memory(t);
    let (mem, raw, size, n) = if in_pairs(t, n) { (MemTy::B32, Ty::U32, 4, n / 2) } else { (mem, raw, t.bytes(), n) };
    let at_once = [4, 2, 1].into_iter().find(|c| n.is_multiple_of(*c) && c * size <= 16).unwrap_or(1);
    (0..n).step_by(at_once).flat_map(|first| k.load_at(mem, raw, address, offset + (first * size) as i32, at_once)).collect()
}

/// What `n` neighbours are, by what [`load_words`] gives.
pub fn widened(k: &mut Writer, t: DType, words: &[Val], n: usize) -> Vec<Val> {
    if in_pairs(t, n) {
        return words.iter().flat_map(|&w| halves(k, w, t)).collect();
    }
    words.iter().map(|&v| widen(k, v, t)).collect()
}

fn in_pairs(t: DType, n: usize) -> bool {
    half(t).is_some() && n.is_multiple_of(2)
}

/// Stores neighbouring values where [`load_neighbours`] would read them.
pub fn store_neighbours(k: &mut Writer, t: DType, address: Val, offset: i32, values: &[Val]) {
    let (mem, _) = memory(t);
    let (n, size) = (values.len(), t.bytes());
    if let (Some(h), true, true) = (half(t), n.is_multiple_of(2), k.packs()) {
        let words: Vec<Val> = values.chunks(2).map(|pair| k.op(Ty::U32, Op::Pack(h), &[pair[1], pair[0]])).collect();
        let at_once = [4, 2, 1].into_iter().find(|w| words.len().is_multiple_of(*w)).unwrap_or(1);
        for (i, group) in words.chunks(at_once).enumerate() {
            k.store_at(MemTy::B32, address, offset + (4 * i * at_once) as i32, group);
        }
        return;
    }
    let at_once = [4, 2, 1].into_iter().find(|c| n.is_multiple_of(*c) && c * size <= 16).unwrap_or(1);
    let stored: Vec<Val> = values.iter().map(|&v| narrow(k, v, t)).collect();
    for (i, group) in stored.chunks(at_once).enumerate() {
        k.store_at(mem, address, offset + (i * at_once * size) as i32, group);
    }
}

/// The two values in a word.
fn halves(k: &mut Writer, word: Val, t: DType) -> [Val; 2] {
    let sixteen = k.int(16, Ty::U32);
    if t == DType::F16 {
        return [Op::LowHalf, Op::HighHalf].map(|half| {
            let h = k.op(Ty::B16, half, &[word]);
            k.op(Ty::F32, Op::FromHalf, &[h])
        });
    }
    let mask = k.int(0xffff_0000, Ty::U32);
    let low = k.op(Ty::U32, Op::Shl, &[word, sixteen]);
    let high = k.op(Ty::U32, Op::And, &[word, mask]);
    [low, high].map(|w| k.op(Ty::F32, Op::Bits(Ty::U32), &[w]))
}

/// Results on the way to memory: [`emit`], where storing rounds what the function only rounds as its last step.
pub fn emit_stored(
    k: &mut Writer,
    f: &ScalarFn,
    inputs: &[Val],
    coordinate: &mut dyn FnMut(&mut Writer, usize) -> Val,
) -> Result<Vec<Val>, Unsupported> {
    let mut short = f.clone();
    for o in &mut short.outputs {
        if let (Expr::Cast(x), Some(_)) = (f.insts[usize::from(*o)].expr, half(f.dtype(*o)))
            && f.dtype(x) == DType::F32
        {
            *o = x;
        }
    }
    short.prune();
    emit(k, &short, inputs, coordinate)
}

/// Writes a function of inputs and coordinates; returns its results.
pub fn emit(
    k: &mut Writer,
    f: &ScalarFn,
    inputs: &[Val],
    coordinate: &mut dyn FnMut(&mut Writer, usize) -> Val,
) -> Result<Vec<Val>, Unsupported> {
    let mut values: Vec<Val> = vec![];
    for inst in &f.insts {
        let v = |x: u16| values[usize::from(x)];
        let of = |x: u16| f.dtype(x);
        let ty = register(inst.dtype);
        let value = match inst.expr {
            Expr::Input(i) => inputs[usize::from(i)],
            Expr::Const(bits) if inst.dtype.is_float() => k.float(f64::from_bits(bits), ty),
            Expr::Const(bits) => k.int(bits as i64, ty),
            Expr::Index(d) => {
                let at = coordinate(k, usize::from(d));
                convert(k, at, Ty::S64)
            }
            Expr::Unary(u, x) => unary(k, u, v(x), of(x))?,
            Expr::Binary(b, x, y) => binary(k, b, v(x), v(y), of(x))?,
            Expr::Select(c, x, y) => {
                let zero = k.int(0, v(c).ty);
                let not = k.compare(Cmp::Eq, v(c), zero);
                k.select(not, v(y), v(x))
            }
            Expr::Cast(x) => cast(k, v(x), of(x), inst.dtype),
        };
        values.push(value);
    }
    Ok(f.outputs.iter().map(|&o| values[usize::from(o)]).collect())
}

/// A predicate as 0 or 1.
fn flag(k: &mut Writer, p: Val) -> Val {
    let (yes, no) = (k.int(1, Ty::S32), k.int(0, Ty::S32));
    k.select(p, yes, no)
}

/// A value in registers of another type.
pub fn convert(k: &mut Writer, v: Val, to: Ty) -> Val {
    match (v.ty, to) {
        (a, b) if a == b => v,
        // The same registers under another sign.
        (Ty::S32 | Ty::U32, Ty::S32 | Ty::U32) | (Ty::S64 | Ty::U64, Ty::S64 | Ty::U64) => Val { ty: to, ..v },
        (from, _) => k.op(to, Op::Convert(from), &[v]),
    }
}

fn cast(k: &mut Writer, v: Val, from: DType, to: DType) -> Val {
    let ty = register(to);
    if to == DType::Bool {
        let zero = if from.is_float() { k.float(0.0, v.ty) } else { k.int(0, v.ty) };
        let equal = k.compare(Cmp::Eq, v, zero);
        let (no, yes) = (k.int(0, Ty::S32), k.int(1, Ty::S32));
        return k.select(equal, no, yes);
    }
    if from.is_float() && !to.is_float() && to.bytes() < 4 {
        // Saturation to a narrow type: to 32 bits first, which saturates, then by comparison.
        let wide = convert(k, v, Ty::S32);
        let (low, high) = to.int_range();
        let (low, high) = (k.int(low, Ty::S32), k.int(high, Ty::S32));
        let below = k.compare(Cmp::Lt, wide, low);
        let raised = k.select(below, low, wide);
        let above = k.compare(Cmp::Lt, high, raised);
        return k.select(above, high, raised);
    }
    let converted = convert(k, v, ty);
    let rounded = match to {
        DType::F16 | DType::BF16 => narrow(k, converted, to),
        _ if Format::of(to).is_some() => narrow(k, converted, to),
        _ if from.is_float() => return converted,
        _ => return wrap(k, converted, to),
    };
    widen(k, rounded, to)
}

fn unary(k: &mut Writer, u: Unary, x: Val, t: DType) -> Result<Val, Unsupported> {
    let refuse = || Unsupported(format!("{u} of {t}"));
    let simple = match u {
        Unary::Neg => Some(Op::Neg),
        Unary::Abs if t == DType::U64 || t == DType::U32 => return Ok(x),
        Unary::Abs => Some(Op::Abs),
        Unary::Sqrt if t.is_float() => Some(Op::Sqrt),
        Unary::Floor if t.is_float() => Some(Op::Floor),
        Unary::Ceil if t.is_float() => Some(Op::Ceil),
        Unary::Round if t.is_float() => Some(Op::Round),
        _ => None,
    };
    if let Some(op) = simple {
        let ty = if t == DType::U64 {
            Ty::S64
        } else if t == DType::U32 {
            Ty::S32
        } else {
            x.ty
        };
        let y = k.op(ty, op, &[x]);
        return Ok(if t.is_float() { y } else { wrap(k, Val { ty: x.ty, ..y }, t) });
    }
    Ok(match u {
        Unary::Not => {
            let zero = k.int(0, x.ty);
            let p = k.compare(Cmp::Eq, x, zero);
            flag(k, p)
        }
        Unary::IsNan if t.is_float() => {
            let p = k.compare(Cmp::Nan, x, x);
            flag(k, p)
        }
        Unary::Recip if t.is_float() => {
            let one = k.float(1.0, x.ty);
            k.op(x.ty, Op::Div, &[one, x])
        }
        Unary::HardSwish if x.ty == Ty::F32 => {
            let (sixth, half, zero, one) = (k.float(1.0 / 6.0, x.ty), k.float(0.5, x.ty), k.float(0.0, x.ty), k.float(1.0, x.ty));
            let y = k.fma(x, sixth, half);
            let low = k.compare(Cmp::Lt, y, zero);
            let y = k.select(low, zero, y);
            let high = k.compare(Cmp::Lt, one, y);
            let y = k.select(high, one, y);
            k.mul(x, y)
        }
        Unary::Exp if x.ty == Ty::F32 => math::exp(k, x),
        Unary::Log if x.ty == Ty::F32 => math::log(k, x),
        Unary::Softplus if x.ty == Ty::F32 => {
            // max(x, 0) + log(1 + e^-|x|)
            let a = k.op(Ty::F32, Op::Abs, &[x]);
            let minus = k.op(Ty::F32, Op::Neg, &[a]);
            let e = math::exp(k, minus);
            let one = k.float(1.0, x.ty);
            let sum = k.add(e, one);
            let log = math::log(k, sum);
            let zero = k.float(0.0, x.ty);
            let below = k.compare(Cmp::Lt, x, zero);
            let most = k.select(below, zero, x);
            k.add(most, log)
        }
        Unary::Sign if t.is_float() => {
            let (zero, one, minus) = (k.float(0.0, x.ty), k.float(1.0, x.ty), k.float(-1.0, x.ty));
            let (above, below) = (k.compare(Cmp::Lt, zero, x), k.compare(Cmp::Lt, x, zero));
            let y = k.select(above, one, x);
            k.select(below, minus, y)
        }
        Unary::Erf if x.ty == Ty::F32 => math::erf(k, x),
        Unary::Tanh if x.ty == Ty::F32 => math::tanh(k, x),
        Unary::Sigmoid if x.ty == Ty::F32 => math::sigmoid(k, x),
        Unary::Gelu if x.ty == Ty::F32 => math::gelu(k, x),
        Unary::GeluTanh if x.ty == Ty::F32 => math::gelu_tanh(k, x),
        Unary::Silu if x.ty == Ty::F32 => {
            let s = math::sigmoid(k, x);
            k.mul(x, s)
        }
        Unary::IsPosInf | Unary::IsNegInf if t.is_float() => {
            let sign = if u == Unary::IsPosInf { 1.0 } else { -1.0 };
            let infinity = k.float(sign * f64::INFINITY, x.ty);
            let p = k.compare(Cmp::Eq, x, infinity);
            flag(k, p)
        }
        Unary::BitNot if !t.is_float() => {
            let ones = k.int(-1, x.ty);
            let y = k.op(x.ty, Op::Xor, &[x, ones]);
            wrap(k, y, t)
        }
        Unary::Sign if !t.is_float() => {
            let (zero, one, minus) = (k.int(0, x.ty), k.int(1, x.ty), k.int(-1, x.ty));
            let (above, below) = (k.compare(Cmp::Lt, zero, x), k.compare(Cmp::Lt, x, zero));
            let y = k.select(above, one, x);
            k.select(below, minus, y)
        }
        Unary::HardSwish if x.ty == Ty::F64 => {
            let (sixth, half, zero, one) = (k.float(1.0 / 6.0, x.ty), k.float(0.5, x.ty), k.float(0.0, x.ty), k.float(1.0, x.ty));
            let y = k.fma(x, sixth, half);
            let y = k.extreme(true, y, zero);
            let y = k.extreme(false, y, one);
            k.mul(x, y)
        }
        _ => {
            let wide = convert(k, x, Ty::F64);
            let y = double::unary(k, u, wide).ok_or_else(refuse)?;
            let y = convert(k, y, x.ty);
            if t.is_float() { y } else { wrap(k, y, t) }
        }
    })
}

/// A remainder with the sign of the divisor instead of the dividend.
fn with_divisor(k: &mut Writer, r: Val, y: Val) -> Val {
    let (zero, moved) = (k.float(0.0, r.ty), k.add(r, y));
    let (below, positive) = (k.compare(Cmp::Lt, r, zero), k.compare(Cmp::Lt, zero, y));
    let (above, negative) = (k.compare(Cmp::Lt, zero, r), k.compare(Cmp::Lt, y, zero));
    let first = k.op(Ty::Pred, Op::And, &[below, positive]);
    let second = k.op(Ty::Pred, Op::And, &[above, negative]);
    let wrong = k.op(Ty::Pred, Op::Or, &[first, second]);
    k.select(wrong, moved, r)
}

fn binary(k: &mut Writer, b: Binary, x: Val, y: Val, t: DType) -> Result<Val, Unsupported> {
    let float = t.is_float();
    let value = match b {
        Binary::Add => k.add(x, y),
        Binary::Sub => k.sub(x, y),
        Binary::Mul => k.mul(x, y),
        Binary::Div if x.ty == Ty::F32 => math::divide(k, x, y),
        Binary::Div if float => k.op(x.ty, Op::Div, &[x, y]),
        Binary::Div | Binary::Rem | Binary::Mod if !float => quotient(k, b, x, y),
        Binary::Rem | Binary::Mod | Binary::Pow if float => {
            let [x64, y64] = [x, y].map(|v| convert(k, v, Ty::F64));
            let r = if b == Binary::Pow { double::power(k, x64, y64) } else { double::remainder(k, x64, y64) };
            let r = if b == Binary::Mod { with_divisor(k, r, y64) } else { r };
            return Ok(convert(k, r, x.ty));
        }
        Binary::Pow => power(k, x, y),
        Binary::Shl | Binary::Shr => shifted(k, b, x, y, t),
        Binary::Max | Binary::Min => return Ok(k.extreme(b == Binary::Max, x, y)),
        Binary::And if !float => k.op(x.ty, Op::And, &[x, y]),
        Binary::Or if !float => k.op(x.ty, Op::Or, &[x, y]),
        Binary::Xor if !float => k.op(x.ty, Op::Xor, &[x, y]),
        Binary::Eq | Binary::Lt | Binary::Le => {
            let c = match b {
                Binary::Eq => Cmp::Eq,
                Binary::Lt => Cmp::Lt,
                _ => Cmp::Le,
            };
            let p = k.compare(c, x, y);
            return Ok(flag(k, p));
        }
        _ => return Err(Unsupported(format!("{b} of {t}"))),
    };
    Ok(if float { value } else { wrap(k, value, t) })
}
