//! [DynamicQuantizeLinear](https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html): quantization to `u8` by the range of the elements and zero.

use super::{Context, Imported, OpDef};
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, DType, ScalarFn, Unary};

pub(super) const OP: OpDef = OpDef { name: "DynamicQuantizeLinear", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let t = cx.dtype(x);
    let all: Vec<usize> = (0..cx.shape(x).len()).collect();
    let mut extreme = |kind| cx.b.reduce(kind, x, &all).and_then(|y| cx.b.reshape(y, &[]));
    let (low, high) = (extreme(ReduceKind::Min)?, extreme(ReduceKind::Max)?);
    let scale = cx.b.map(&[low, high], |f, i| {
        let (zero, one, levels) = (f.constant(0.0, t), f.constant(1.0, t), f.constant(255.0, t));
        let (low, high) = (f.binary(Binary::Min, i[0], zero), f.binary(Binary::Max, i[1], zero));
        let span = f.binary(Binary::Sub, high, low);
        let flat = f.binary(Binary::Eq, span, zero);
        let span = f.select(flat, one, span);
        f.binary(Binary::Div, span, levels)
    })?;
    let bounded = |f: &mut ScalarFn, level: u16| {
        let (zero, levels) = (f.constant(0.0, t), f.constant(255.0, t));
        let level = f.binary(Binary::Max, level, zero);
        let level = f.binary(Binary::Min, level, levels);
        f.cast(level, DType::U8)
    };
    let zero_point = cx.b.map(&[low, scale], |f, i| {
        let zero = f.constant(0.0, t);
        let low = f.binary(Binary::Min, i[0], zero);
        let steps = f.binary(Binary::Div, low, i[1]);
        let level = f.unary(Unary::Neg, steps);
        let level = f.unary(Unary::Round, level);
        bounded(f, level)
    })?;
    let y = cx.b.map(&[x, scale, zero_point], |f, i| {
        let steps = f.binary(Binary::Div, i[0], i[1]);
        let (level, origin) = (f.unary(Unary::Round, steps), f.cast(i[2], t));
        let level = f.binary(Binary::Add, level, origin);
        bounded(f, level)
    })?;
    Ok(vec![y, scale, zero_point])
}
