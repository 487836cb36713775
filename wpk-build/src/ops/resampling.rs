//! Interpolation tables: which elements an output reads along one axis, and with which weights.
//!
//! Formulas are those of the [Resize](https://onnx.ai/onnx/operators/onnx__Resize.html) specification.

use super::Refusal;
use super::context::Context;
use crate::graph::{Literal, Op, ValueId};
use wpk_plan::DType;

/// How output coordinates map to input coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Coordinates {
    /// Pixel centres at halves.
    HalfPixel,
    /// The same, centred when the scale does not divide.
    HalfPixelSymmetric,
    /// The same, 0 for a single output.
    PytorchHalfPixel,
    /// Corner to corner.
    AlignCorners,
    /// Origin to origin.
    Asymmetric,
    /// A region, given as fractions of the extent.
    Crop(f64, f64),
}

/// How elements between two pixels are made.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// One pixel, chosen by a rounding rule.
    Nearest(String),
    /// From two pixels.
    Linear,
    /// From four pixels, with this coefficient.
    Cubic(f64),
}

/// Interpolation along one axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Extent read.
    pub input: usize,
    /// Extent written.
    pub output: usize,
    /// Output over input, as given.
    pub scale: f64,
    /// The coordinate rule.
    pub coordinates: Coordinates,
    /// The interpolation.
    pub mode: Mode,
    /// Whether a wider filter is used to shrink.
    pub antialias: bool,
    /// Whether weights outside the input are dropped and the rest scaled up.
    pub exclude_outside: bool,
}

impl Axis {
    fn origin(&self, i: usize) -> f64 {
        let (x, n, m) = (i as f64, self.input as f64, self.scale * self.input as f64);
        let half = (x + 0.5) / self.scale - 0.5;
        match self.coordinates {
            Coordinates::HalfPixel => half,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = self.output as f64 / m;
                n / 2.0 * (1.0 - adjustment) + half
            }
            Coordinates::PytorchHalfPixel => {
                if self.output > 1 {
                    half
                } else {
                    0.0
                }
            }
            Coordinates::AlignCorners => {
                if m != 1.0 {
                    x * (n - 1.0) / (m - 1.0)
                } else {
                    0.0
                }
            }
            Coordinates::Asymmetric => x / self.scale,
            Coordinates::Crop(start, end) => {
                if m != 1.0 {
                    start * (n - 1.0) + x * (end - start) * (n - 1.0) / (m - 1.0)
                } else {
                    0.5 * (start + end) * (n - 1.0)
                }
            }
        }
    }

    /// Positions and weights of one output.
    fn taps(&self, i: usize) -> Vec<(i64, f64)> {
        let x = self.origin(i);
        let base = x.floor() as i64;
        let ratio = x - x.floor();
        let shrink = if self.antialias { self.scale.min(1.0) } else { 1.0 };
        let filter = |support: f64, f: &dyn Fn(f64) -> f64| {
            let start = (-support / shrink).floor() as i64 + 1;
            (start..=1 - start).map(|k| (base + k, f((k as f64 - ratio) * shrink))).collect::<Vec<_>>()
        };
        let mut taps = match &self.mode {
            Mode::Nearest(rule) => {
                let at = match rule.as_str() {
                    "round_prefer_ceil" => (x + 0.5).floor(),
                    "floor" => x.floor(),
                    "ceil" => x.ceil(),
                    _ => (x - 0.5).ceil(),
                };
                return vec![(at as i64, 1.0)];
            }
            Mode::Linear => filter(1.0, &|d| (1.0 - d.abs()).max(0.0)),
            Mode::Cubic(a) => filter(2.0, &|d| cubic(d.abs(), *a)),
        };
        if self.exclude_outside {
            taps.iter_mut().filter(|t| !(0..self.input as i64).contains(&t.0)).for_each(|t| t.1 = 0.0);
        }
        if self.exclude_outside || self.antialias {
            let sum: f64 = taps.iter().map(|t| t.1).sum();
            taps.iter_mut().for_each(|t| t.1 /= sum);
        }
        taps
    }

    /// Interpolates dimension `axis`.
    pub fn apply(&self, cx: &mut Context<'_>, x: ValueId, axis: usize) -> Result<ValueId, Refusal> {
        if self.output > 1 << 24 {
            return Err(format!("an extent of {} is too large", self.output).into());
        }
        if self.input == 0 {
            return Err("there is nothing to interpolate".into());
        }
        let rows: Vec<Vec<(i64, f64)>> = (0..self.output).map(|i| self.taps(i)).collect();
        let taps = rows.iter().map(Vec::len).max().unwrap_or(1);
        let clamp = |at: i64| at.clamp(0, self.input as i64 - 1);
        if matches!(self.mode, Mode::Nearest(_)) {
            let index: Vec<i64> = rows.iter().map(|r| clamp(r[0].0)).collect();
            if index.iter().copied().eq(0..self.input as i64) {
                return Ok(x);
            }
            let index = cx.b.constant(Literal::ints(DType::I64, &[index.len()], &index));
            return Ok(cx.b.one(Op::Gather { axis }, &[x, index])?);
        }
        let (index, weights): (Vec<i64>, Vec<f64>) = rows.into_iter().flatten().map(|(at, w)| (clamp(at), w)).unzip();
        let index = cx.b.constant(Literal::ints(DType::I64, &[self.output, taps], &index));
        let weights = cx.b.constant(Literal::floats(cx.dtype(x), &[self.output, taps], &weights));
        Ok(cx.b.one(Op::Resample { axis }, &[x, index, weights])?)
    }

    /// Whether each output's coordinate leaves the input.
    pub fn outside(&self) -> Vec<bool> {
        (0..self.output).map(|i| self.origin(i)).map(|x| x < 0.0 || x > self.input as f64 - 1.0).collect()
    }
}

/// The cubic convolution kernel (Keys, 1981).
fn cubic(d: f64, a: f64) -> f64 {
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}
