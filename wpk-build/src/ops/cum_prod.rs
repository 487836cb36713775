//! [CumProd](https://onnx.ai/onnx/operators/onnx__CumProd.html): running product along an axis.

use super::cum_sum::scan;
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "CumProd", import };

fn import(cx: &mut Context<'_>) -> Imported {
    scan(cx, true)
}
