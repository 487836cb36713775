//! Scalar functions of one point.

use wpk_plan::minifloat::Format;
use wpk_plan::number::{erf, power};
use wpk_plan::{Binary, DType, Expr, ScalarFn, Unary};

/// A value of a scalar function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Of a floating type.
    F(f64),
    /// Of an integer type or a boolean.
    I(i64),
}

impl Value {
    /// As a floating value.
    pub fn f(self) -> f64 {
        match self {
            Self::F(x) => x,
            Self::I(x) => x as f64,
        }
    }
    /// As an integer.
    pub fn i(self) -> i64 {
        match self {
            Self::F(x) => x as i64,
            Self::I(x) => x,
        }
    }
}

/// Evaluates every operation; `values` ends with one value per instruction.
pub fn run(f: &ScalarFn, inputs: &dyn Fn(usize) -> Value, index: &[usize], values: &mut Vec<Value>) {
    values.clear();
    for inst in &f.insts {
        let v = |x: u16| values[usize::from(x)];
        let t = |x: u16| f.dtype(x);
        let value = match inst.expr {
            Expr::Input(i) => inputs(usize::from(i)),
            Expr::Const(bits) if inst.dtype.is_float() => Value::F(f64::from_bits(bits)),
            Expr::Const(bits) => Value::I(bits as i64),
            Expr::Index(d) => Value::I(index[usize::from(d)] as i64),
            Expr::Unary(u, x) => unary(u, v(x), t(x)),
            Expr::Binary(b, x, y) => binary(b, v(x), v(y), t(x)),
            Expr::Select(c, x, y) => {
                if v(c).i() != 0 {
                    v(x)
                } else {
                    v(y)
                }
            }
            Expr::Cast(x) => cast(v(x), inst.dtype),
        };
        values.push(value);
    }
}

/// Converts to a type; floating to integer truncates and saturates.
pub fn cast(x: Value, to: DType) -> Value {
    match (x, to) {
        (Value::F(x), DType::Bool) => Value::I(i64::from(x != 0.0)),
        (Value::F(x), DType::U64) => Value::I(x as u64 as i64),
        (Value::F(x), DType::F16) => Value::F(half::f16::from_f64(x).to_f64()),
        (Value::F(x), DType::BF16) => Value::F(half::bf16::from_f64(x).to_f64()),
        (x, t) if Format::of(t).is_some() => Value::F(Format::of(t).map_or(0.0, |f| f.round(x.f()))),
        (Value::F(_), t) if t.is_float() => x,
        (Value::F(x), t) => {
            let (low, high) = t.int_range();
            Value::I((x as i64).clamp(low, high))
        }
        (Value::I(x), t) if t.is_float() => Value::F(x as f64),
        (Value::I(x), t) => Value::I(t.wrap(x)),
    }
}

fn unary(u: Unary, x: Value, t: DType) -> Value {
    match (u, x) {
        (Unary::Not, x) => Value::I(i64::from(x.i() == 0)),
        (Unary::Neg, Value::I(x)) => Value::I(t.wrap(x.wrapping_neg())),
        (Unary::Abs, Value::I(x)) => Value::I(if t == DType::U64 { x } else { t.wrap(x.wrapping_abs()) }),
        (Unary::Sign, Value::I(x)) => Value::I(if t == DType::U64 { i64::from(x != 0) } else { x.signum() }),
        (Unary::BitNot, Value::I(x)) => Value::I(t.wrap(!x)),
        (Unary::IsNan | Unary::IsPosInf | Unary::IsNegInf, Value::I(_)) => Value::I(0),
        (Unary::IsNan, Value::F(x)) => Value::I(i64::from(x.is_nan())),
        (Unary::IsPosInf, Value::F(x)) => Value::I(i64::from(x == f64::INFINITY)),
        (Unary::IsNegInf, Value::F(x)) => Value::I(i64::from(x == f64::NEG_INFINITY)),
        (Unary::Floor | Unary::Ceil | Unary::Round, Value::I(x)) => Value::I(x),
        (u, Value::I(x)) => Value::I(t.wrap(float(u, x as f64) as i64)),
        (u, Value::F(x)) => Value::F(float(u, x)),
    }
}

fn float(u: Unary, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match u {
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Sqrt => x.sqrt(),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tan => x.tan(),
        Unary::Asin => x.asin(),
        Unary::Acos => x.acos(),
        Unary::Atan => x.atan(),
        Unary::Sinh => x.sinh(),
        Unary::Cosh => x.cosh(),
        Unary::Asinh => x.asinh(),
        Unary::Acosh => x.acosh(),
        Unary::Atanh => x.atanh(),
        Unary::Erf => erf(x),
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => sigmoid(x),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Sign => {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                x
            }
        }
        Unary::Recip => 1.0 / x,
        Unary::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Unary::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Unary::Silu => x * sigmoid(x),
        Unary::Softplus => {
            if x > 0.0 {
                x + (-x).exp().ln_1p()
            } else {
                x.exp().ln_1p()
            }
        }
        Unary::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::Not | Unary::BitNot | Unary::IsNan | Unary::IsPosInf | Unary::IsNegInf => f64::NAN,
    }
}

/// Combines two values of type `t`.
pub fn binary(b: Binary, x: Value, y: Value, t: DType) -> Value {
    match (x, y) {
        (Value::I(x), Value::I(y)) => int(b, x, y, t),
        _ => {
            let (x, y) = (x.f(), y.f());
            let truth = |c: bool| Value::I(i64::from(c));
            Value::F(match b {
                Binary::Add => x + y,
                Binary::Sub => x - y,
                Binary::Mul => x * y,
                Binary::Div => x / y,
                Binary::Mod => {
                    let r = x % y;
                    if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
                }
                Binary::Rem => x % y,
                Binary::Pow => x.powf(y),
                Binary::Max => {
                    if x > y || x.is_nan() {
                        x
                    } else {
                        y
                    }
                }
                Binary::Min => {
                    if x < y || x.is_nan() {
                        x
                    } else {
                        y
                    }
                }
                Binary::Eq => return truth(x == y),
                Binary::Lt => return truth(x < y),
                Binary::Le => return truth(x <= y),
                Binary::And | Binary::Or | Binary::Xor | Binary::Shl | Binary::Shr => f64::NAN,
            })
        }
    }
}

fn int(b: Binary, x: i64, y: i64, t: DType) -> Value {
    let unsigned = t == DType::U64;
    let less = |x: i64, y: i64| if unsigned { (x as u64) < y as u64 } else { x < y };
    Value::I(t.wrap(match b {
        Binary::Add => x.wrapping_add(y),
        Binary::Sub => x.wrapping_sub(y),
        Binary::Mul => x.wrapping_mul(y),
        Binary::Div if unsigned => (x as u64).checked_div(y as u64).unwrap_or(0) as i64,
        Binary::Div => x.checked_div(y).unwrap_or(0),
        Binary::Mod | Binary::Rem if unsigned => (x as u64).checked_rem(y as u64).unwrap_or(0) as i64,
        Binary::Mod => {
            let r = x.checked_rem(y).unwrap_or(0);
            if r != 0 && (r < 0) != (y < 0) { r.wrapping_add(y) } else { r }
        }
        Binary::Rem => x.checked_rem(y).unwrap_or(0),
        Binary::Pow => power(x, y),
        Binary::Max => {
            if less(x, y) {
                y
            } else {
                x
            }
        }
        Binary::Min => {
            if less(x, y) {
                x
            } else {
                y
            }
        }
        Binary::And => x & y,
        Binary::Or => x | y,
        Binary::Xor => x ^ y,
        Binary::Shl => {
            if (0..64).contains(&y) {
                x << y
            } else {
                0
            }
        }
        Binary::Shr => {
            if (0..64).contains(&y) {
                (x as u64 >> y) as i64
            } else {
                0
            }
        }
        Binary::Eq => i64::from(x == y),
        Binary::Lt => i64::from(less(x, y)),
        Binary::Le => i64::from(!less(y, x)),
    }))
}
