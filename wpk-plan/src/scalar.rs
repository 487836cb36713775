//! Scalar functions: what happens to one element, as a DAG in single-assignment order.

use crate::DType;
use crate::codec::{codec_enum, codec_struct, unit_enum};

unit_enum! {
    /// A function of one value.
    Unary {
        /// `-x`
        Neg = "neg",
        /// `|x|`
        Abs = "abs",
        /// Square root.
        Sqrt = "sqrt",
        /// `e^x`
        Exp = "exp",
        /// Natural logarithm.
        Log = "log",
        /// Sine of radians.
        Sin = "sin",
        /// Cosine of radians.
        Cos = "cos",
        /// Tangent of radians.
        Tan = "tan",
        /// Inverse sine.
        Asin = "asin",
        /// Inverse cosine.
        Acos = "acos",
        /// Inverse tangent.
        Atan = "atan",
        /// Hyperbolic sine.
        Sinh = "sinh",
        /// Hyperbolic cosine.
        Cosh = "cosh",
        /// Inverse hyperbolic sine.
        Asinh = "asinh",
        /// Inverse hyperbolic cosine.
        Acosh = "acosh",
        /// Inverse hyperbolic tangent.
        Atanh = "atanh",
        /// The error function.
        Erf = "erf",
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// `1 / (1 + e^-x)`
        Sigmoid = "sigmoid",
        /// Largest integer not above.
        Floor = "floor",
        /// Smallest integer not below.
        Ceil = "ceil",
        /// Nearest integer, ties to even.
        Round = "round",
        /// -1, 0 or 1.
        Sign = "sign",
        /// `1 / x`
        Recip = "recip",
        /// Logical negation.
        Not = "not",
        /// Every bit inverted.
        BitNot = "bitnot",
        /// Whether not a number.
        IsNan = "isnan",
        /// Whether positive infinity.
        IsPosInf = "isposinf",
        /// Whether negative infinity.
        IsNegInf = "isneginf",
        /// `x/2 (1 + erf(x/sqrt 2))`
        Gelu = "gelu",
        /// GELU by its tanh approximation.
        GeluTanh = "gelu_tanh",
        /// `x sigmoid(x)`
        Silu = "silu",
        /// `log(1 + e^x)`
        Softplus = "softplus",
        /// `x min(max(x/6 + 1/2, 0), 1)`
        HardSwish = "hardswish",
    }
}

unit_enum! {
    /// A function of two values.
    Binary {
        /// Sum.
        Add = "add",
        /// Difference.
        Sub = "sub",
        /// Product.
        Mul = "mul",
        /// Quotient; integers truncate towards zero, and a quotient by zero is zero.
        Div = "div",
        /// Remainder with the sign of the divisor.
        Mod = "mod",
        /// Remainder with the sign of the dividend.
        Rem = "rem",
        /// Power.
        Pow = "pow",
        /// The larger; not a number if either is.
        Max = "max",
        /// The smaller; not a number if either is.
        Min = "min",
        /// Conjunction, of bits for integers.
        And = "and",
        /// Disjunction, of bits for integers.
        Or = "or",
        /// Exclusive disjunction, of bits for integers.
        Xor = "xor",
        /// Left shift.
        Shl = "shl",
        /// Logical right shift.
        Shr = "shr",
        /// `x == y`
        Eq = "eq",
        /// `x < y`
        Lt = "lt",
        /// `x <= y`
        Le = "le",
    }
}

/// One operation; the numbers name earlier instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Expr {
    /// The element of an input.
    Input(u16),
    /// A constant: the bits of an `f64` for floating types, else of an `i64`.
    Const(u64),
    /// The coordinate of the element in an output dimension.
    Index(u16),
    /// A function of one value.
    Unary(Unary, u16),
    /// A function of two values, both of one type.
    Binary(Binary, u16, u16),
    /// The second where the first is true, else the third.
    Select(u16, u16, u16),
    /// Conversion: floating to integer truncates and saturates, integer to integer wraps.
    Cast(u16),
}
codec_enum!(Expr {
    0 => Input(i),
    1 => Const(bits),
    2 => Index(d),
    3 => Unary(f, x),
    4 => Binary(f, x, y),
    5 => Select(c, x, y),
    6 => Cast(x),
});

/// An operation and the type of its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inst {
    /// What is computed.
    pub expr: Expr,
    /// The type of the result.
    pub dtype: DType,
}
codec_struct!(Inst { expr, dtype });

/// A scalar function of several inputs and outputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ScalarFn {
    /// The operations; each uses only earlier ones.
    pub insts: Vec<Inst>,
    /// The results.
    pub outputs: Vec<u16>,
}
codec_struct!(ScalarFn { insts, outputs });

impl ScalarFn {
    /// The function that returns its only input.
    pub fn identity(dtype: DType) -> Self {
        Self { insts: vec![Inst { expr: Expr::Input(0), dtype }], outputs: vec![0] }
    }

    /// Appends an operation, or finds the equal one; the result names it.
    pub fn push(&mut self, expr: Expr, dtype: DType) -> u16 {
        let inst = Inst { expr, dtype };
        let at = self.insts.iter().position(|i| *i == inst).unwrap_or_else(|| {
            self.insts.push(inst);
            self.insts.len() - 1
        });
        at as u16
    }

    /// Input `i`.
    pub fn input(&mut self, i: usize, dtype: DType) -> u16 {
        self.push(Expr::Input(i as u16), dtype)
    }

    /// A constant of any type; integers take the integral part.
    pub fn constant(&mut self, x: f64, dtype: DType) -> u16 {
        self.push(Expr::Const(if dtype.is_float() { x.to_bits() } else { x as i64 as u64 }), dtype)
    }

    /// An integer constant, exact in 64 bits; floating types take its value.
    pub fn integer(&mut self, x: i64, dtype: DType) -> u16 {
        self.push(Expr::Const(if dtype.is_float() { (x as f64).to_bits() } else { dtype.wrap(x) as u64 }), dtype)
    }

    /// The type of a value.
    pub fn dtype(&self, x: u16) -> DType {
        self.insts[usize::from(x)].dtype
    }

    /// A function of one value, of the value's type (`Bool` for tests).
    pub fn unary(&mut self, f: Unary, x: u16) -> u16 {
        let test = matches!(f, Unary::IsNan | Unary::IsPosInf | Unary::IsNegInf | Unary::Not);
        let dtype = if test { DType::Bool } else { self.dtype(x) };
        self.push(Expr::Unary(f, x), dtype)
    }

    /// A function of two values, of their type (`Bool` for comparisons).
    pub fn binary(&mut self, f: Binary, x: u16, y: u16) -> u16 {
        let dtype = if matches!(f, Binary::Eq | Binary::Lt | Binary::Le) { DType::Bool } else { self.dtype(x) };
        self.push(Expr::Binary(f, x, y), dtype)
    }

    /// `x` where `c` is true, else `y`.
    pub fn select(&mut self, c: u16, x: u16, y: u16) -> u16 {
        let dtype = self.dtype(x);
        self.push(Expr::Select(c, x, y), dtype)
    }

    /// Conversion to `dtype`; nothing where it has that type, or was widened from it.
    pub fn cast(&mut self, x: u16, dtype: DType) -> u16 {
        let Inst { expr, dtype: found } = self.insts[usize::from(x)];
        match expr {
            _ if found == dtype => x,
            Expr::Cast(y) if self.dtype(y) == dtype && dtype.widens_to(found) => y,
            _ => self.push(Expr::Cast(x), dtype),
        }
    }

    /// The coordinate in output dimension `d`.
    pub fn index(&mut self, d: usize) -> u16 {
        self.push(Expr::Index(d as u16), DType::I64)
    }

    /// One more than the largest input that is read.
    pub fn inputs(&self) -> usize {
        self.insts.iter().filter_map(|i| if let Expr::Input(n) = i.expr { Some(usize::from(n) + 1) } else { None }).max().unwrap_or(0)
    }

    /// Whether any coordinate is read.
    pub fn uses_index(&self) -> bool {
        self.insts.iter().any(|i| matches!(i.expr, Expr::Index(_)))
    }

    /// Appends `other` with its inputs replaced by values of `self`; returns its outputs here.
    pub fn inline(&mut self, other: &ScalarFn, inputs: &[u16]) -> Vec<u16> {
        let mut map: Vec<u16> = Vec::with_capacity(other.insts.len());
        for inst in &other.insts {
            let m = |x: u16| map[usize::from(x)];
            let at = match inst.expr {
                Expr::Input(i) => inputs[usize::from(i)],
                Expr::Unary(f, x) => self.push(Expr::Unary(f, m(x)), inst.dtype),
                Expr::Binary(f, x, y) => self.push(Expr::Binary(f, m(x), m(y)), inst.dtype),
                Expr::Select(c, x, y) => self.push(Expr::Select(m(c), m(x), m(y)), inst.dtype),
                Expr::Cast(x) => self.cast(m(x), inst.dtype),
                Expr::Const(_) | Expr::Index(_) => self.push(inst.expr, inst.dtype),
            };
            map.push(at);
        }
        other.outputs.iter().map(|&o| map[usize::from(o)]).collect()
    }

    /// Removes operations that no output needs.
    pub fn prune(&mut self) {
        let mut live = vec![false; self.insts.len()];
        self.outputs.iter().for_each(|&o| live[usize::from(o)] = true);
        for i in (0..self.insts.len()).rev() {
            if live[i] {
                self.insts[i].expr.operands().iter().for_each(|&x| live[usize::from(x)] = true);
            }
        }
        let mut map = vec![0u16; self.insts.len()];
        let mut kept: Vec<Inst> = Vec::new();
        for (i, inst) in self.insts.iter().enumerate().filter(|(i, _)| live[*i]) {
            map[i] = kept.len() as u16;
            kept.push(Inst { expr: inst.expr.map(|x| map[usize::from(x)]), dtype: inst.dtype });
        }
        self.insts = kept;
        self.outputs.iter_mut().for_each(|o| *o = map[usize::from(*o)]);
    }
}

impl Expr {
    /// The values it uses.
    pub fn operands(self) -> Vec<u16> {
        match self {
            Self::Input(_) | Self::Const(_) | Self::Index(_) => vec![],
            Self::Unary(_, x) | Self::Cast(x) => vec![x],
            Self::Binary(_, x, y) => vec![x, y],
            Self::Select(c, x, y) => vec![c, x, y],
        }
    }

    /// The same operation on renamed values.
    pub fn map(self, m: impl Fn(u16) -> u16) -> Self {
        match self {
            Self::Unary(f, x) => Self::Unary(f, m(x)),
            Self::Binary(f, x, y) => Self::Binary(f, m(x), m(y)),
            Self::Select(c, x, y) => Self::Select(m(c), m(x), m(y)),
            Self::Cast(x) => Self::Cast(m(x)),
            leaf => leaf,
        }
    }
}

/// Checks that operands precede their uses and outputs exist; `rank` bounds coordinates.
pub(crate) fn faults(f: &ScalarFn, inputs: usize, rank: usize) -> Option<String> {
    for (i, inst) in f.insts.iter().enumerate() {
        if inst.expr.operands().iter().any(|&x| usize::from(x) >= i) {
            return Some(format!("%{i} uses a later value"));
        }
        match inst.expr {
            Expr::Input(n) if usize::from(n) >= inputs => return Some(format!("%{i} reads input {n} of {inputs}")),
            Expr::Index(d) if usize::from(d) >= rank => return Some(format!("%{i} reads coordinate {d} of {rank}")),
            _ => {}
        }
    }
    f.outputs.iter().find(|&&o| usize::from(o) >= f.insts.len()).map(|o| format!("output %{o} does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_widened_narrows_to_itself() {
        use DType::{BF16, F8E4M3, F16, F32, F64, I64};
        let cases = [(F16, F32, F16, true), (BF16, F32, BF16, true), (F8E4M3, F32, F8E4M3, true), (F32, F64, F32, true)];
        let others = [(F32, F16, F32, false), (F16, F32, BF16, false), (F16, BF16, F16, false), (I64, F32, I64, false)];
        for (from, through, to, same) in cases.into_iter().chain(others) {
            let mut f = ScalarFn::default();
            let x = f.input(0, from);
            let wide = f.cast(x, through);
            assert_eq!(f.cast(wide, to) == x, same, "{from} {through} {to}");
        }
    }
}
