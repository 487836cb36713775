//! Algebra of scalar functions: constants, neutral elements, and the activations that exporters spell out.

use wpk_kernels::scalar::{Value, run};
use wpk_plan::{Binary, DType, Expr, ScalarFn, Unary};

/// Rewrites a function to a simpler equal one. Floating rewrites change a result by rounding at most.
pub fn simplify(f: &mut ScalarFn) {
    loop {
        let mut next = ScalarFn::default();
        let mut map: Vec<u16> = vec![];
        for inst in &f.insts {
            let expr = inst.expr.map(|x| map[usize::from(x)]);
            let at = rewrite(&mut next, expr, inst.dtype).unwrap_or_else(|| next.push(expr, inst.dtype));
            map.push(at);
        }
        next.outputs = f.outputs.iter().map(|&o| map[usize::from(o)]).collect();
        next.prune();
        if next == *f {
            return;
        }
        *f = next;
    }
}

/// The constant that a value is, as a floating number.
pub fn constant(f: &ScalarFn, x: u16) -> Option<f64> {
    match f.insts[usize::from(x)] {
        i if i.dtype == DType::U64 => None,
        wpk_plan::Inst { expr: Expr::Const(bits), dtype } => Some(if dtype.is_float() { f64::from_bits(bits) } else { bits as i64 as f64 }),
        _ => None,
    }
}

fn near(x: Option<f64>, y: f64) -> bool {
    x.is_some_and(|x| (x - y).abs() <= 1e-3 * y.abs())
}

/// Both operands of a commutative operation, the constant second.
fn operands(f: &ScalarFn, x: u16, b: Binary) -> Option<(u16, u16)> {
    match f.insts[usize::from(x)].expr {
        Expr::Binary(c, p, q) if c == b => Some(if constant(f, p).is_some() { (q, p) } else { (p, q) }),
        _ => None,
    }
}

fn unary_of(f: &ScalarFn, x: u16, u: Unary) -> Option<u16> {
    match f.insts[usize::from(x)].expr {
        Expr::Unary(v, p) if u == v => Some(p),
        _ => None,
    }
}

fn rewrite(f: &mut ScalarFn, expr: Expr, dtype: DType) -> Option<u16> {
    let operands_constant = expr.operands().iter().all(|&x| matches!(f.insts[usize::from(x)].expr, Expr::Const(_)));
    if operands_constant && !expr.operands().is_empty() {
        return evaluate(f, expr, dtype);
    }
    let c = |x: u16| constant(f, x);
    match expr {
        Expr::Cast(x) if f.dtype(x) == dtype => Some(x),
        Expr::Cast(x) if dtype == DType::I8 => shifted_levels(f, x),
        Expr::Select(_, x, y) if x == y => Some(x),
        Expr::Unary(Unary::Neg, x) => unary_of(f, x, Unary::Neg),
        Expr::Unary(Unary::Not, x) => unary_of(f, x, Unary::Not),
        Expr::Unary(Unary::Recip, x) if dtype.is_float() => sigmoid(f, x),
        Expr::Binary(Binary::Add | Binary::Sub, x, y) if c(y) == Some(0.0) => Some(x),
        Expr::Binary(Binary::Add, x, y) if c(x) == Some(0.0) => Some(y),
        Expr::Binary(Binary::Mul | Binary::Div | Binary::Pow, x, y) if c(y) == Some(1.0) => Some(x),
        Expr::Binary(Binary::Div, x, y) if dtype.is_float() && c(x) == Some(1.0) => Some(f.unary(Unary::Recip, y)),
        Expr::Binary(Binary::Div, x, y) if dtype.is_float() && c(y).is_some_and(power_of_two) => {
            let inverse = f.constant(1.0 / c(y)?, dtype);
            Some(f.binary(Binary::Mul, x, inverse))
        }
        Expr::Binary(Binary::Pow, x, y) if c(y) == Some(2.0) => Some(f.binary(Binary::Mul, x, x)),
        Expr::Binary(Binary::Pow, x, y) if dtype.is_float() && c(y) == Some(0.5) => Some(f.unary(Unary::Sqrt, x)),
        Expr::Binary(Binary::Mul, x, y) if c(x) == Some(1.0) => Some(y),
        Expr::Binary(b @ (Binary::And | Binary::Or), x, y) if dtype == DType::Bool => {
            let (fixed, other) = if c(x).is_some() { (x, y) } else { (y, x) };
            // True changes nothing about "and" and decides "or", false the other way round.
            c(fixed).map(|value| if (value != 0.0) == (b == Binary::And) { other } else { fixed })
        }
        // Constants come second, so that patterns need one form.
        Expr::Binary(b @ (Binary::Add | Binary::Mul | Binary::Max | Binary::Min), x, y) if c(x).is_some() && c(y).is_none() => {
            Some(f.binary(b, y, x))
        }
        Expr::Binary(Binary::Mul, x, y) if dtype.is_float() => product(f, x, y),
        Expr::Binary(Binary::Div, x, y) if dtype.is_float() => silu_quotient(f, x, y),
        _ => None,
    }
}

/// Levels of unsigned bytes less 128 as signed ones: `i8(u8(clamp(round(x) + z)) - 128)` moves the zero point and the bounds.
fn shifted_levels(f: &mut ScalarFn, x: u16) -> Option<u16> {
    let expr = |f: &ScalarFn, x: u16| f.insts[usize::from(x)].expr;
    let Expr::Binary(Binary::Sub, levels, less) = expr(f, x) else { return None };
    let less = constant(f, less).filter(|&c| c == 128.0)?;
    let Expr::Cast(levels) = expr(f, levels) else { return None };
    let Expr::Cast(bounded) = expr(f, levels) else { return None };
    if f.dtype(levels) != DType::U8 || f.dtype(bounded) != DType::F32 {
        return None;
    }
    let (inner, high) = operands(f, bounded, Binary::Min)?;
    let (inner, low) = operands(f, inner, Binary::Max)?;
    let (high, low) = (constant(f, high)?, constant(f, low)?);
    let (rounded, zero) = match operands(f, inner, Binary::Add) {
        Some((rounded, zero)) => (rounded, constant(f, zero)?),
        None => (inner, 0.0),
    };
    unary_of(f, rounded, Unary::Round)?;
    if zero.fract() != 0.0 || low < 0.0 || high > 255.0 {
        return None;
    }
    let [zero, low, high] = [zero, low, high].map(|c| f.constant(c - less, DType::F32));
    let x = f.binary(Binary::Add, rounded, zero);
    let x = f.binary(Binary::Max, x, low);
    let x = f.binary(Binary::Min, x, high);
    Some(f.cast(x, DType::I8))
}

fn power_of_two(x: f64) -> bool {
    x != 0.0 && x.is_normal() && x.to_bits() << 12 == 0 && x.abs().log2().abs() < 60.0
}

fn evaluate(f: &mut ScalarFn, expr: Expr, dtype: DType) -> Option<u16> {
    let mut alone = f.clone();
    let at = alone.push(expr, dtype);
    alone.outputs = vec![at];
    alone.prune();
    let mut values = vec![];
    run(&alone, &|_| Value::I(0), &[], &mut values);
    let value = values[usize::from(alone.outputs[0])];
    // What a type cannot hold must stay an operation of that type.
    let rounded = if dtype == DType::F32 { f64::from(value.f() as f32) } else { value.f() };
    Some(if dtype.is_float() { f.constant(rounded, dtype) } else { f.integer(value.i(), dtype) })
}

/// `1 / (1 + exp(-x))`
fn sigmoid(f: &mut ScalarFn, denominator: u16) -> Option<u16> {
    let (e, one) = operands(f, denominator, Binary::Add)?;
    let x = unary_of(f, unary_of(f, e, Unary::Exp)?, Unary::Neg)?;
    (constant(f, one) == Some(1.0)).then(|| f.unary(Unary::Sigmoid, x))
}

/// `x / (1 + exp(-x))`
fn silu_quotient(f: &mut ScalarFn, x: u16, denominator: u16) -> Option<u16> {
    let (e, one) = operands(f, denominator, Binary::Add)?;
    let y = unary_of(f, unary_of(f, e, Unary::Exp)?, Unary::Neg)?;
    (y == x && constant(f, one) == Some(1.0)).then(|| f.unary(Unary::Silu, x))
}

/// Activations that are products: SiLU, HardSwish, GELU by `erf` and by `tanh`.
fn product(f: &mut ScalarFn, x: u16, y: u16) -> Option<u16> {
    for (p, q) in [(x, y), (y, x)] {
        if unary_of(f, q, Unary::Sigmoid) == Some(p) {
            return Some(f.unary(Unary::Silu, p));
        }
        if hard_sigmoid(f, q) == Some(p) {
            return Some(f.unary(Unary::HardSwish, p));
        }
    }
    let mut factors = vec![];
    collect(f, x, &mut factors);
    collect(f, y, &mut factors);
    let scale: f64 = factors.iter().filter_map(|&v| constant(f, v)).product();
    let rest: Vec<u16> = factors.into_iter().filter(|&v| constant(f, v).is_none()).collect();
    let [p, q] = rest[..] else { return None };
    for (p, q) in [(p, q), (q, p)] {
        let Some((inner, one)) = operands(f, q, Binary::Add) else { continue };
        if constant(f, one) != Some(1.0) || (scale - 0.5).abs() > 1e-6 {
            continue;
        }
        if unary_of(f, inner, Unary::Erf).and_then(|e| scaled(f, e, std::f64::consts::FRAC_1_SQRT_2)) == Some(p) {
            return Some(f.unary(Unary::Gelu, p));
        }
        if unary_of(f, inner, Unary::Tanh).and_then(|t| gelu_argument(f, t)) == Some(p) {
            return Some(f.unary(Unary::GeluTanh, p));
        }
    }
    None
}

fn collect(f: &ScalarFn, x: u16, factors: &mut Vec<u16>) {
    match operands(f, x, Binary::Mul) {
        Some((p, q)) if factors.len() < 4 => {
            collect(f, p, factors);
            collect(f, q, factors);
        }
        _ => factors.push(x),
    }
}

/// `p` where `x` is `p * factor` or `p / (1 / factor)`.
fn scaled(f: &ScalarFn, x: u16, factor: f64) -> Option<u16> {
    if let Some((p, q)) = operands(f, x, Binary::Mul) {
        return near(constant(f, q), factor).then_some(p);
    }
    match f.insts[usize::from(x)].expr {
        Expr::Binary(Binary::Div, p, q) if near(constant(f, q), 1.0 / factor) => Some(p),
        _ => None,
    }
}

/// `p` where `x` is `sqrt(2/pi) (p + 0.044715 p^3)`.
fn gelu_argument(f: &ScalarFn, x: u16) -> Option<u16> {
    let sum = scaled(f, x, (2.0 / std::f64::consts::PI).sqrt())?;
    let (p, q) = operands(f, sum, Binary::Add)?;
    [(p, q), (q, p)].into_iter().find_map(|(p, q)| {
        let cube = scaled(f, q, 0.044_715)?;
        let power = match f.insts[usize::from(cube)].expr {
            Expr::Binary(Binary::Pow, b, e) => b == p && constant(f, e) == Some(3.0),
            Expr::Binary(Binary::Mul, a, b) => {
                let square = |s: u16| f.insts[usize::from(s)].expr == Expr::Binary(Binary::Mul, p, p);
                a == p && square(b) || b == p && square(a)
            }
            _ => false,
        };
        power.then_some(p)
    })
}

/// `p` where `x` is `clamp(p + 3, 0, 6) / 6` or `clamp(p / 6 + 1/2, 0, 1)`.
fn hard_sigmoid(f: &ScalarFn, x: u16) -> Option<u16> {
    let clamp = |x: u16, high: f64| {
        let bound = |x: u16, b: Binary, limit: f64| operands(f, x, b).and_then(|(p, q)| (constant(f, q) == Some(limit)).then_some(p));
        bound(x, Binary::Min, high)
            .and_then(|y| bound(y, Binary::Max, 0.0))
            .or_else(|| bound(x, Binary::Max, 0.0).and_then(|y| bound(y, Binary::Min, high)))
    };
    let plus = |x: u16, c: f64| operands(f, x, Binary::Add).and_then(|(p, q)| near(constant(f, q), c).then_some(p));
    let six = scaled(f, x, 1.0 / 6.0).and_then(|x| clamp(x, 6.0)).and_then(|x| plus(x, 3.0));
    six.or_else(|| clamp(x, 1.0).and_then(|x| plus(x, 0.5)).and_then(|x| scaled(f, x, 1.0 / 6.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(build: impl FnOnce(&mut ScalarFn, u16) -> u16, expected: &str) {
        let mut f = ScalarFn::default();
        let x = f.input(0, DType::F32);
        let result = build(&mut f, x);
        f.outputs = vec![result];
        simplify(&mut f);
        assert_eq!(f.to_string(), expected);
    }

    fn number(f: &mut ScalarFn, x: f64) -> u16 {
        f.constant(x, DType::F32)
    }

    #[test]
    fn neutral_elements_vanish() {
        check(
            |f, x| {
                let z = number(f, 0.0);
                f.binary(Binary::Add, x, z)
            },
            "$0",
        );
        check(
            |f, x| {
                let o = number(f, 1.0);
                let y = f.binary(Binary::Mul, o, x);
                f.binary(Binary::Div, y, o)
            },
            "$0",
        );
        check(
            |f, x| {
                let t = number(f, 2.0);
                f.binary(Binary::Pow, x, t)
            },
            "mul($0, $0)",
        );
        check(
            |f, x| {
                let t = number(f, 8.0);
                f.binary(Binary::Div, x, t)
            },
            "mul($0, 0.125)",
        );
    }

    #[test]
    fn constants_fold() {
        check(
            |f, x| {
                let (a, b) = (number(f, 2.0), number(f, 3.0));
                let c = f.binary(Binary::Mul, a, b);
                f.binary(Binary::Add, c, x)
            },
            "add($0, 6.0)",
        );
    }

    #[test]
    fn activations_are_recognized() {
        check(
            |f, x| {
                let s = f.unary(Unary::Sigmoid, x);
                f.binary(Binary::Mul, s, x)
            },
            "silu($0)",
        );
        check(
            |f, x| {
                let (half, one, root) = (number(f, 0.5), number(f, 1.0), number(f, std::f64::consts::SQRT_2));
                let d = f.binary(Binary::Div, x, root);
                let e = f.unary(Unary::Erf, d);
                let s = f.binary(Binary::Add, e, one);
                let m = f.binary(Binary::Mul, x, s);
                f.binary(Binary::Mul, m, half)
            },
            "gelu($0)",
        );
        check(
            |f, x| {
                let (three, zero, six) = (number(f, 3.0), number(f, 0.0), number(f, 6.0));
                let s = f.binary(Binary::Add, x, three);
                let low = f.binary(Binary::Max, s, zero);
                let clamped = f.binary(Binary::Min, low, six);
                let h = f.binary(Binary::Div, clamped, six);
                f.binary(Binary::Mul, x, h)
            },
            "hardswish($0)",
        );
        check(
            |f, x| {
                let (half, one, c, r) = (number(f, 0.5), number(f, 1.0), number(f, 0.044_715), number(f, 0.797_884_560_8));
                let three = number(f, 3.0);
                let cube = f.binary(Binary::Pow, x, three);
                let cube = f.binary(Binary::Mul, cube, c);
                let sum = f.binary(Binary::Add, x, cube);
                let arg = f.binary(Binary::Mul, sum, r);
                let t = f.unary(Unary::Tanh, arg);
                let t = f.binary(Binary::Add, t, one);
                let h = f.binary(Binary::Mul, x, half);
                f.binary(Binary::Mul, h, t)
            },
            "gelu_tanh($0)",
        );
    }
}
