//! Random numbers. They are drawn when the model is compiled, by a generator of wpk's own from the `seed` of the node, or else from its name: every
//! call of a model sees the same ones, on every device, as builds and results are to be the same every time.

use super::{Context, Refusal};
use crate::graph::{Literal, ValueId};
use crate::hash;
use crate::onnx::dtype;
use wpk_plan::DType;

/// Numbers that a node may draw.
const MOST: usize = 1 << 24;

/// A sequence of numbers (splitmix64; Steele, Lea and Flood 2014).
struct Draws(u64);

impl Draws {
    /// Between 0 and 1, neither of which occurs.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 + 0.5 / (1u64 << 53) as f64
    }

    /// Of mean 0 and deviation 1 (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.unit(), self.unit());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

/// How numbers are spread.
#[derive(Clone, Copy)]
pub enum Spread {
    /// By `mean` and `scale`.
    Normal,
    /// From `low` to `high`.
    Uniform,
}

/// The numbers of a node, of an element type and some extents.
pub fn numbers(cx: &mut Context<'_>, spread: Spread, t: DType, shape: &[usize]) -> Result<ValueId, Refusal> {
    if !t.is_float() {
        return Err(format!("random numbers of {t} are not supported").into());
    }
    let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MOST);
    let n = n.ok_or_else(|| format!("{shape:?} is too many random numbers"))?;
    let name = format!("{}", cx.b.origin);
    let bits = cx.attrs.float("seed").map_or_else(|| u64::from_str_radix(&hash::hex(name.as_bytes())[..16], 16).unwrap_or(0), f64::to_bits);
    let mut draws = Draws(bits);
    let attribute = |name: &str, default: f64| cx.attrs.float(name).unwrap_or(default);
    let values: Vec<f64> = match spread {
        Spread::Normal => {
            let (mean, scale) = (attribute("mean", 0.0), attribute("scale", 1.0));
            (0..n).map(|_| mean + scale * draws.normal()).collect()
        }
        Spread::Uniform => {
            let (low, high) = (attribute("low", 0.0), attribute("high", 1.0));
            (0..n).map(|_| low + (high - low) * draws.unit()).collect()
        }
    };
    Ok(cx.b.constant(Literal::floats(t, shape, &values)))
}

/// The element type that a node names.
pub fn named(cx: &Context<'_>, default: DType) -> Result<DType, Refusal> {
    Ok(match cx.attrs.int("dtype") {
        Some(t) => dtype(t as i32).map_err(|t| format!("random numbers of {t} are not supported"))?,
        None => default,
    })
}

/// A node whose extents are an attribute.
pub fn shaped(cx: &mut Context<'_>, spread: Spread) -> super::Imported {
    let shape = cx.attrs.ints("shape").ok_or("there is no shape")?;
    let shape = super::context::unsigned(&shape, "shape")?;
    let t = named(cx, DType::F32)?;
    Ok(vec![numbers(cx, spread, t, &shape)?])
}

/// A node whose extents are those of its input, and the type too where none is named.
pub fn alike(cx: &mut Context<'_>, spread: Spread) -> super::Imported {
    let x = cx.input(0)?;
    let t = named(cx, cx.dtype(x))?;
    let shape = cx.shape(x);
    Ok(vec![numbers(cx, spread, t, &shape)?])
}
