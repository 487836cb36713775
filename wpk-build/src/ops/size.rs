//! [Size](https://onnx.ai/onnx/operators/onnx__Size.html): the number of elements as a constant.

use super::{Context, Imported, OpDef};
use crate::graph::Linear;
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "Size", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let mut len = Linear::constant(1);
    for d in 0..cx.shape(x).len() {
        let n = cx.b.extent(x, d)?;
        let product = n.known().map(|by| len.times(by)).or(len.known().map(|by| n.times(by)));
        len = product.flatten().ok_or("two extents that are known at run time only are multiplied")?;
    }
    Ok(vec![cx.b.sized(DType::I64, &[], vec![len])])
}
