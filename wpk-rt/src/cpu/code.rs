//! Scalar functions on blocks of elements: one loop per operation over a few hundred lanes.

use super::isa::dispatch;
use super::math;
use wpk_plan::minifloat::Format;
use wpk_plan::number::{erf, power};
use wpk_plan::{Binary, DType, Expr, Inst, ScalarFn, Unary};

/// Lanes of a block.
pub(crate) const BLOCK: usize = 256;

/// What registers hold: `f32`, `f64`, or `i64` for every integer and boolean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    F32,
    F64,
    Int,
}

/// The register class of a type; half types have none on the CPU.
pub(crate) fn class(t: DType) -> Class {
    match t {
        DType::F64 => Class::F64,
        t if t.is_float() => Class::F32,
        _ => Class::Int,
    }
}

/// A register: where a value's lanes lie.
pub(crate) type Register = *mut u8;

/// A function ready to run on blocks.
pub(crate) struct Code {
    pub(crate) function: ScalarFn,
}

impl Code {
    pub(crate) fn new(function: &ScalarFn) -> Self {
        Self { function: function.clone() }
    }

    /// Bytes of scratch for all registers of one thread, their pointers included.
    pub(crate) fn scratch(&self) -> usize {
        self.function.insts.len() * (BLOCK * 8 + size_of::<Register>()) + 64
    }

    /// Registers in scratch memory, one per operation.
    ///
    /// # Safety
    /// `scratch` must hold [`Code::scratch`] bytes, aligned to 64.
    pub(crate) unsafe fn registers<'a>(&self, scratch: *mut u8) -> &'a mut [Register] {
        let n = self.function.insts.len();
        unsafe {
            let list = scratch.add(n * BLOCK * 8).cast::<Register>();
            for i in 0..n {
                list.add(i).write(scratch.add(i * BLOCK * 8));
            }
            std::slice::from_raw_parts_mut(list, n)
        }
    }

    /// Runs every operation on `n` lanes; inputs and coordinates must be in their registers.
    ///
    /// # Safety
    /// Registers must hold `n` lanes of their class.
    pub(crate) unsafe fn run(&self, registers: &[Register], n: usize) {
        for (i, inst) in self.function.insts.iter().enumerate() {
            if !matches!(inst.expr, Expr::Input(_) | Expr::Index(_)) {
                unsafe { execute(&self.function.insts, i, registers, n) }
            }
        }
    }
}

dispatch! {
    /// One operation on `n` lanes.
    unsafe fn execute(insts: &[Inst], i: usize, registers: &[Register], n: usize) = execute_body
}

#[inline(always)]
unsafe fn execute_body(insts: &[Inst], i: usize, registers: &[Register], n: usize) {
    let inst = insts[i];
    let reg = |x: u16| registers[usize::from(x)];
    let to = registers[i];
    let of = |x: u16| insts[usize::from(x)].dtype;
    unsafe {
        match inst.expr {
            Expr::Input(_) | Expr::Index(_) => {}
            Expr::Const(bits) => match class(inst.dtype) {
                Class::F32 => fill(to, f64::from_bits(bits) as f32, n),
                Class::F64 => fill(to, f64::from_bits(bits), n),
                Class::Int => fill(to, bits as i64, n),
            },
            Expr::Unary(u, x) => match class(of(x)) {
                Class::F32 => unary_f32(u, reg(x), to, n),
                Class::F64 => unary_f64(u, reg(x), to, n),
                Class::Int => unary_int(u, of(x), reg(x), to, n),
            },
            Expr::Binary(b, x, y) => match class(of(x)) {
                Class::F32 => binary_f32(b, reg(x), reg(y), to, n),
                Class::F64 => binary_f64(b, reg(x), reg(y), to, n),
                Class::Int => binary_int(b, of(x), reg(x), reg(y), to, n),
            },
            Expr::Select(c, x, y) => match class(inst.dtype) {
                Class::F32 => select::<f32>(reg(c), reg(x), reg(y), to, n),
                Class::F64 => select::<f64>(reg(c), reg(x), reg(y), to, n),
                Class::Int => select::<i64>(reg(c), reg(x), reg(y), to, n),
            },
            Expr::Cast(x) => cast(of(x), inst.dtype, reg(x), to, n),
        }
    }
}

#[inline(always)]
unsafe fn fill<T: Copy>(to: Register, x: T, n: usize) {
    let to = to.cast::<T>();
    for i in 0..n {
        unsafe { to.add(i).write(x) }
    }
}

/// Lanes that are read before any of them is written: results may take the place of operands, which keeps compilers from vectors otherwise.
const AT_ONCE: usize = 16;

#[inline(always)]
unsafe fn lanes<A: Copy, B>(x: Register, to: Register, n: usize, f: impl Fn(A) -> B) {
    let (x, to) = (x.cast::<A>(), to.cast::<B>());
    let whole = n / AT_ONCE * AT_ONCE;
    for at in (0..whole).step_by(AT_ONCE) {
        unsafe {
            let x = x.add(at).cast::<[A; AT_ONCE]>().read_unaligned();
            to.add(at).cast::<[B; AT_ONCE]>().write_unaligned(std::array::from_fn(|i| f(x[i])));
        }
    }
    for i in whole..n {
        unsafe { to.add(i).write(f(*x.add(i))) }
    }
}

#[inline(always)]
unsafe fn lanes2<A: Copy, B>(x: Register, y: Register, to: Register, n: usize, f: impl Fn(A, A) -> B) {
    let (x, y, to) = (x.cast::<A>(), y.cast::<A>(), to.cast::<B>());
    let whole = n / AT_ONCE * AT_ONCE;
    for at in (0..whole).step_by(AT_ONCE) {
        unsafe {
            let (x, y) = (x.add(at).cast::<[A; AT_ONCE]>().read_unaligned(), y.add(at).cast::<[A; AT_ONCE]>().read_unaligned());
            to.add(at).cast::<[B; AT_ONCE]>().write_unaligned(std::array::from_fn(|i| f(x[i], y[i])));
        }
    }
    for i in whole..n {
        unsafe { to.add(i).write(f(*x.add(i), *y.add(i))) }
    }
}

#[inline(always)]
unsafe fn select<T: Copy>(c: Register, x: Register, y: Register, to: Register, n: usize) {
    let (c, x, y, to) = (c.cast::<i64>(), x.cast::<T>(), y.cast::<T>(), to.cast::<T>());
    for i in 0..n {
        unsafe { to.add(i).write(if *c.add(i) != 0 { *x.add(i) } else { *y.add(i) }) }
    }
}

/// The functions that both floating classes compute alike.
macro_rules! float_functions {
    ($unary:ident, $binary:ident, $T:ty, $($special:ident => $f:expr),* $(,)?) => {
        #[inline(always)]
        pub(super) unsafe fn $unary(u: Unary, x: Register, to: Register, n: usize) {
            unsafe {
                match u {
                    $(Unary::$special => lanes(x, to, n, $f),)*
                    Unary::Neg => lanes(x, to, n, |x: $T| -x),
                    Unary::Abs => lanes(x, to, n, |x: $T| x.abs()),
                    Unary::Sqrt => lanes(x, to, n, |x: $T| x.sqrt()),
                    Unary::Sin => lanes(x, to, n, |x: $T| x.sin()),
                    Unary::Cos => lanes(x, to, n, |x: $T| x.cos()),
                    Unary::Tan => lanes(x, to, n, |x: $T| x.tan()),
                    Unary::Asin => lanes(x, to, n, |x: $T| x.asin()),
                    Unary::Acos => lanes(x, to, n, |x: $T| x.acos()),
                    Unary::Atan => lanes(x, to, n, |x: $T| x.atan()),
                    Unary::Sinh => lanes(x, to, n, |x: $T| x.sinh()),
                    Unary::Cosh => lanes(x, to, n, |x: $T| x.cosh()),
                    Unary::Asinh => lanes(x, to, n, |x: $T| x.asinh()),
                    Unary::Acosh => lanes(x, to, n, |x: $T| x.acosh()),
                    Unary::Atanh => lanes(x, to, n, |x: $T| x.atanh()),
                    Unary::Floor => lanes(x, to, n, |x: $T| x.floor()),
                    Unary::Ceil => lanes(x, to, n, |x: $T| x.ceil()),
                    Unary::Round => lanes(x, to, n, |x: $T| x.round_ties_even()),
                    Unary::Sign => lanes(x, to, n, |x: $T| if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x }),
                    Unary::Recip => lanes(x, to, n, |x: $T| 1.0 / x),
                    Unary::Softplus => lanes(x, to, n, |x: $T| if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() }),
                    Unary::HardSwish => lanes(x, to, n, |x: $T| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
                    Unary::IsNan => lanes(x, to, n, |x: $T| i64::from(x.is_nan())),
                    Unary::IsPosInf => lanes(x, to, n, |x: $T| i64::from(x == <$T>::INFINITY)),
                    Unary::IsNegInf => lanes(x, to, n, |x: $T| i64::from(x == <$T>::NEG_INFINITY)),
                    Unary::Not | Unary::BitNot => {}
                }
            }
        }

        #[inline(always)]
        unsafe fn $binary(b: Binary, x: Register, y: Register, to: Register, n: usize) {
            unsafe {
                match b {
                    Binary::Add => lanes2(x, y, to, n, |x: $T, y| x + y),
                    Binary::Sub => lanes2(x, y, to, n, |x: $T, y| x - y),
                    Binary::Mul => lanes2(x, y, to, n, |x: $T, y| x * y),
                    Binary::Div => lanes2(x, y, to, n, |x: $T, y| x / y),
                    Binary::Mod => lanes2(x, y, to, n, |x: $T, y| {
                        let r = x % y;
                        if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
                    }),
                    Binary::Rem => lanes2(x, y, to, n, |x: $T, y| x % y),
                    Binary::Pow => lanes2(x, y, to, n, |x: $T, y| x.powf(y)),
                    Binary::Max => lanes2(x, y, to, n, |x: $T, y| if x > y || x.is_nan() { x } else { y }),
                    Binary::Min => lanes2(x, y, to, n, |x: $T, y| if x < y || x.is_nan() { x } else { y }),
                    Binary::Eq => lanes2(x, y, to, n, |x: $T, y| i64::from(x == y)),
                    Binary::Lt => lanes2(x, y, to, n, |x: $T, y| i64::from(x < y)),
                    Binary::Le => lanes2(x, y, to, n, |x: $T, y| i64::from(x <= y)),
                    Binary::And | Binary::Or | Binary::Xor | Binary::Shl | Binary::Shr => {}
                }
            }
        }
    };
}

float_functions! { unary_f32, binary_f32, f32,
    Exp => math::exp,
    Log => math::log,
    Erf => math::erf,
    Tanh => math::tanh,
    Sigmoid => math::sigmoid,
    Gelu => math::gelu,
    GeluTanh => math::gelu_tanh,
    Silu => |x: f32| x * math::sigmoid(x),
}

float_functions! { unary_f64, binary_f64, f64,
    Exp => f64::exp,
    Log => f64::ln,
    Erf => erf,
    Tanh => f64::tanh,
    Sigmoid => |x: f64| 1.0 / (1.0 + (-x).exp()),
    Gelu => |x: f64| 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
    GeluTanh => |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh()),
    Silu => |x: f64| x / (1.0 + (-x).exp()),
}

#[inline(always)]
unsafe fn unary_int(u: Unary, t: DType, x: Register, to: Register, n: usize) {
    unsafe {
        match u {
            Unary::Not => lanes(x, to, n, |x: i64| i64::from(x == 0)),
            Unary::Neg => lanes(x, to, n, |x: i64| t.wrap(x.wrapping_neg())),
            Unary::Abs => lanes(x, to, n, |x: i64| if t == DType::U64 { x } else { t.wrap(x.wrapping_abs()) }),
            Unary::Sign => lanes(x, to, n, |x: i64| if t == DType::U64 { i64::from(x != 0) } else { x.signum() }),
            Unary::BitNot => lanes(x, to, n, |x: i64| t.wrap(!x)),
            Unary::IsNan | Unary::IsPosInf | Unary::IsNegInf => fill(to, 0i64, n),
            Unary::Floor | Unary::Ceil | Unary::Round => lanes(x, to, n, |x: i64| x),
            Unary::Sqrt => lanes(x, to, n, |x: i64| t.wrap((x as f64).sqrt() as i64)),
            Unary::Log => lanes(x, to, n, |x: i64| t.wrap((x as f64).ln() as i64)),
            Unary::Exp => lanes(x, to, n, |x: i64| t.wrap((x as f64).exp() as i64)),
            Unary::Recip => lanes(x, to, n, |x: i64| t.wrap((1.0 / x as f64) as i64)),
            _ => fill(to, 0i64, n),
        }
    }
}

#[inline(always)]
unsafe fn binary_int(b: Binary, t: DType, x: Register, y: Register, to: Register, n: usize) {
    let unsigned = t == DType::U64;
    let less = move |x: i64, y: i64| if unsigned { (x as u64) < y as u64 } else { x < y };
    unsafe {
        match b {
            Binary::Add => lanes2(x, y, to, n, |x: i64, y| t.wrap(x.wrapping_add(y))),
            Binary::Sub => lanes2(x, y, to, n, |x: i64, y| t.wrap(x.wrapping_sub(y))),
            Binary::Mul => lanes2(x, y, to, n, |x: i64, y| t.wrap(x.wrapping_mul(y))),
            Binary::Div => lanes2(x, y, to, n, |x: i64, y: i64| {
                t.wrap(if unsigned { (x as u64).checked_div(y as u64).unwrap_or(0) as i64 } else { x.checked_div(y).unwrap_or(0) })
            }),
            Binary::Mod | Binary::Rem => lanes2(x, y, to, n, |x: i64, y: i64| {
                if unsigned {
                    return (x as u64).checked_rem(y as u64).unwrap_or(0) as i64;
                }
                let r = x.checked_rem(y).unwrap_or(0);
                t.wrap(if b == Binary::Mod && r != 0 && (r < 0) != (y < 0) { r.wrapping_add(y) } else { r })
            }),
            Binary::Pow => lanes2(x, y, to, n, |x: i64, y| t.wrap(power(x, y))),
            Binary::Max => lanes2(x, y, to, n, |x: i64, y| if less(x, y) { y } else { x }),
            Binary::Min => lanes2(x, y, to, n, |x: i64, y| if less(x, y) { x } else { y }),
            Binary::And => lanes2(x, y, to, n, |x: i64, y: i64| x & y),
            Binary::Or => lanes2(x, y, to, n, |x: i64, y: i64| x | y),
            Binary::Xor => lanes2(x, y, to, n, |x: i64, y: i64| x ^ y),
            Binary::Shl => lanes2(x, y, to, n, |x: i64, y: i64| t.wrap(if (0..64).contains(&y) { x << y } else { 0 })),
            Binary::Shr => lanes2(x, y, to, n, |x: i64, y: i64| t.wrap(if (0..64).contains(&y) { (x as u64 >> y) as i64 } else { 0 })),
            Binary::Eq => lanes2(x, y, to, n, |x: i64, y: i64| i64::from(x == y)),
            Binary::Lt => lanes2(x, y, to, n, |x: i64, y| i64::from(less(x, y))),
            Binary::Le => lanes2(x, y, to, n, |x: i64, y| i64::from(!less(y, x))),
        }
    }
}

#[inline(always)]
unsafe fn cast(from: DType, to_type: DType, x: Register, to: Register, n: usize) {
    let (low, high) = to_type.int_range();
    if let Some(format) = Format::of(to_type) {
        let round = |x: f64| format.round(x) as f32;
        return unsafe {
            match class(from) {
                Class::F32 => lanes(x, to, n, |x: f32| round(f64::from(x))),
                Class::F64 => lanes(x, to, n, round),
                Class::Int => lanes(x, to, n, |x: i64| round(x as f64)),
            }
        };
    }
    unsafe {
        match (class(from), class(to_type)) {
            (Class::F32, Class::F32) => lanes(x, to, n, |x: f32| x),
            (Class::F32, Class::F64) => lanes(x, to, n, |x: f32| f64::from(x)),
            (Class::F64, Class::F32) => lanes(x, to, n, |x: f64| x as f32),
            (Class::F64, Class::F64) => lanes(x, to, n, |x: f64| x),
            (Class::Int, Class::F32) => lanes(x, to, n, |x: i64| x as f32),
            (Class::Int, Class::F64) => lanes(x, to, n, |x: i64| x as f64),
            (Class::Int, Class::Int) => lanes(x, to, n, |x: i64| to_type.wrap(x)),
            (Class::F32, Class::Int) => match to_type {
                DType::Bool => lanes(x, to, n, |x: f32| i64::from(x != 0.0)),
                DType::U64 => lanes(x, to, n, |x: f32| x as u64 as i64),
                _ => lanes(x, to, n, |x: f32| (x as i64).clamp(low, high)),
            },
            (Class::F64, Class::Int) => match to_type {
                DType::Bool => lanes(x, to, n, |x: f64| i64::from(x != 0.0)),
                DType::U64 => lanes(x, to, n, |x: f64| x as u64 as i64),
                _ => lanes(x, to, n, |x: f64| (x as i64).clamp(low, high)),
            },
        }
    }
}
