//! Affine quantization as maps of integers, `(x - zero) * scale`: what DequantizeLinear and the integer operators become at import, and
//! how products find the levels behind their factors again.

use crate::graph::{Graph, Literal, Op, ValueId};
use crate::scalar::constant;
use std::sync::Arc;
use wpk_plan::minifloat::Format;
use wpk_plan::{Binary, DType, Expr, ScalarFn, View};

/// The bytes that a constant was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantized {
    /// Signed bytes around zero, or floating numbers of at most eight bits, in the constant's shape.
    pub levels: Literal,
    /// What they are multiplied by, broadcast to that shape; nothing for integers.
    pub scale: Option<Literal>,
}

impl Quantized {
    /// The same elements under other extents, where all have one scale.
    pub fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        let scale = match &self.scale {
            Some(s) if s.len() == 1 => Some(Literal { shape: vec![], ..s.clone() }),
            Some(_) => return None,
            None => None,
        };
        Some(Self { levels: Literal { shape: shape.to_vec(), ..self.levels.clone() }, scale })
    }

    /// The constant itself, where it is one of `f32`.
    pub fn numbers(&self) -> Option<Literal> {
        let scale = self.scale.as_ref().filter(|s| s.dtype == DType::F32 && self.levels.dtype == DType::I8)?;
        let by = View::dense(&scale.shape).broadcast(&self.levels.shape)?;
        let scales: Vec<f32> = scale.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let numbers = self.levels.bytes.iter().zip(by.offsets()).flat_map(|(&x, at)| (f32::from(x as i8) * scales[at]).to_le_bytes());
        Some(Literal::dense(DType::F32, &self.levels.shape, numbers.collect::<Vec<u8>>()))
    }
}

/// The levels behind a value that is computed when the model runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation {
    /// Signed bytes.
    pub levels: ValueId,
    /// The level that stands for zero.
    pub zero: i64,
    /// What one level is; nothing for integers.
    pub scale: Option<f64>,
}

/// An operand of the map.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Const(f64),
    Input(usize),
}

/// `(inputs[x] - zero) * scale`, without the factor where the result is an integer.
struct Form {
    x: usize,
    zero: Part,
    scale: Option<Part>,
}

fn input(f: &ScalarFn, mut v: u16) -> Option<usize> {
    loop {
        match f.insts[usize::from(v)].expr {
            Expr::Input(i) => return Some(usize::from(i)),
            Expr::Cast(inner) => v = inner,
            _ => return None,
        }
    }
}

fn part(f: &ScalarFn, v: u16) -> Option<Part> {
    constant(f, v).map(Part::Const).or_else(|| input(f, v).map(Part::Input))
}

fn centred(f: &ScalarFn, v: u16) -> Option<(usize, Part)> {
    match f.insts[usize::from(v)].expr {
        Expr::Binary(Binary::Sub, x, zero) => Some((input(f, x)?, part(f, zero)?)),
        _ => Some((input(f, v)?, Part::Const(0.0))),
    }
}

fn form(f: &ScalarFn) -> Option<Form> {
    let [out] = f.outputs[..] else { return None };
    if f.dtype(out) == DType::I32 {
        let (x, zero) = centred(f, out)?;
        return Some(Form { x, zero, scale: None });
    }
    let few_bits = |v: u16| Format::of(f.dtype(v)).is_some();
    let float = |v: u16| match f.insts[usize::from(v)].expr {
        Expr::Cast(inner) if f.dtype(v) == DType::F32 && f.dtype(inner).is_int() => centred(f, inner),
        // Numbers of few bits become wide before a zero point, which is zero.
        Expr::Cast(inner) if f.dtype(v) == DType::F32 && few_bits(inner) => Some((input(f, inner)?, Part::Const(0.0))),
        Expr::Binary(Binary::Sub, x, zero) if f.dtype(v) == DType::F32 => match f.insts[usize::from(x)].expr {
            // Of integers what is subtracted in `f32` may lie between two levels.
            Expr::Cast(inner) if few_bits(inner) => Some((input(f, inner)?, part(f, zero)?)),
            _ => None,
        },
        _ => None,
    };
    let ((x, zero), scale) = match f.insts[usize::from(out)].expr {
        Expr::Binary(Binary::Mul, p, q) => match float(p) {
            Some(levels) => (levels, part(f, q)?),
            None => (float(q)?, part(f, p)?),
        },
        _ => (float(out)?, Part::Const(1.0)),
    };
    Some(Form { x, zero, scale: Some(scale) })
}

/// The levels of a map of constants, where they fit signed bytes.
pub fn of_constants(f: &ScalarFn, inputs: &[&Literal], shape: &[usize]) -> Option<Arc<Quantized>> {
    let form = form(f)?;
    let x = inputs.get(form.x)?;
    let small = matches!(x.dtype, DType::I8 | DType::U8 | DType::I4 | DType::U4 | DType::I2 | DType::U2);
    if !small && Format::of(x.dtype).is_none() || x.shape != shape {
        return None;
    }
    let zeros = match form.zero {
        Part::Const(zero) => vec![zero as i64],
        Part::Input(i) => inputs.get(i)?.to_ints(),
    };
    let zero = *zeros.first()?;
    if zeros.iter().any(|&z| z != zero) {
        return None;
    }
    if !small && zero != 0 {
        return None;
    }
    let levels = if !small || (x.dtype, zero) == (DType::I8, 0) {
        (*x).clone()
    } else {
        let centred: Vec<i64> = x.to_ints().into_iter().map(|x| x - zero).collect();
        let fits = centred.iter().all(|&x| i8::try_from(x).is_ok());
        fits.then(|| Literal::ints(DType::I8, shape, &centred))?
    };
    let scale = match form.scale {
        Some(Part::Const(scale)) => Some(Literal::floats(DType::F32, &[], &[scale])),
        Some(Part::Input(i)) => Some((*inputs.get(i)?).clone()),
        None => None,
    };
    Some(Arc::new(Quantized { levels, scale }))
}

/// The signed bytes behind a constant factor.
pub fn weights(g: &Graph, v: ValueId) -> Option<Arc<Quantized>> {
    let bytes = |q: &Arc<Quantized>| q.levels.dtype == DType::I8;
    if let Some(literal) = g.literal(v) {
        return literal.quantized.clone().filter(|q| q.levels.shape == literal.shape).filter(bytes);
    }
    // Large integers are not folded.
    let (Op::Map { function, shape }, inputs) = g.op(v)? else { return None };
    of_constants(function, &inputs.iter().map(|&i| g.literal(i)).collect::<Option<Vec<_>>>()?, shape).filter(bytes)
}

/// The levels behind a factor that is computed at run time.
pub fn activation(g: &Graph, v: ValueId) -> Option<Activation> {
    let (Op::Map { function, shape }, inputs) = g.op(v)? else { return None };
    let form = form(function)?;
    let levels = *inputs.get(form.x)?;
    let number = |p: Part| if let Part::Const(x) = p { Some(x) } else { None };
    let scale = match form.scale {
        Some(scale) => Some(number(scale)?),
        None => None,
    };
    let fits = g.dtype(levels) == DType::I8 && g.shape(levels) == shape && g.literal(levels).is_none();
    fits.then_some(Activation { levels, zero: number(form.zero)? as i64, scale })
}
