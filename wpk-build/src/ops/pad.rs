//! [Pad](https://onnx.ai/onnx/operators/onnx__Pad.html): a border of a constant, of the edge, mirrored or wrapped; negative padding crops.

use super::{Context, Imported, OpDef};
use crate::graph::{Literal, Op};
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "Pad", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let mut x = cx.input(0)?;
    let rank = cx.shape(x).len();
    let pads = match cx.ints(1, "pads")? {
        Some(pads) => pads,
        None => cx.attrs.ints("paddings").ok_or("there are no pads")?,
    };
    let axes = match cx.ints(3, "axes")? {
        Some(axes) => cx.axes(&axes, rank)?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() || pads.iter().any(|p| p.unsigned_abs() > 1 << 40) {
        return Err(format!("pads {pads:?} do not fit {} dimensions", axes.len()).into());
    }
    let dtype = cx.dtype(x);
    let value = match cx.constant(2, "constant_value")? {
        Some(literal) => literal.tensor(),
        None => Literal::floats(DType::F64, &[], &[cx.attrs.float("value").unwrap_or(0.0)]).tensor(),
    };
    let (mut before, mut after) = (vec![0i64; rank], vec![0i64; rank]);
    for (i, &d) in axes.iter().enumerate() {
        (before[d], after[d]) = (pads[i], pads[axes.len() + i]);
    }
    let mode = cx.attrs.text("mode").unwrap_or_else(|| "constant".to_owned());
    for d in 0..rank {
        let n = cx.shape(x)[d] as i64;
        let (low, high) = ((-before[d]).max(0), n - (-after[d]).max(0));
        if low > high {
            return Err(format!("pads {pads:?} crop more than there is").into());
        }
        x = cx.b.range(x, d, low as usize, (high - low) as usize)?;
        (before[d], after[d]) = (before[d].max(0), after[d].max(0));
        if mode == "constant" || before[d] + after[d] == 0 {
            continue;
        }
        let n = high - low;
        let source = |i: i64| match mode.as_str() {
            "edge" => Some(i.clamp(0, n - 1)),
            "reflect" => Some(if n == 1 { 0 } else { (n - 1) - ((i.rem_euclid(2 * (n - 1))) - (n - 1)).abs() }),
            "wrap" => Some(i.rem_euclid(n)),
            _ => None,
        };
        if before[d].saturating_add(after[d]).saturating_add(n) > 1 << 24 {
            return Err(format!("pads {pads:?} repeat too much").into());
        }
        if n == 0 {
            return Err(format!("mode={mode} needs elements to repeat").into());
        }
        let Some(index) = (-before[d]..n + after[d]).map(source).collect::<Option<Vec<i64>>>() else { return cx.unsupported("mode", mode) };
        let index = cx.b.constant(Literal::ints(DType::I64, &[index.len()], &index));
        x = cx.b.one(Op::Gather { axis: d }, &[x, index])?;
    }
    if mode == "constant" {
        let fill = if dtype.is_float() { value.f(0).to_bits() } else { value.i(0) as u64 };
        let [before, after] = [before, after].map(|p| p.iter().map(|&n| n as usize).collect());
        x = cx.b.one(Op::Pad { before, after, fill }, &[x])?;
    }
    Ok(vec![x])
}
