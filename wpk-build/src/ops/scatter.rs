//! [Scatter](https://onnx.ai/onnx/operators/onnx__Scatter.html): the former name of ScatterElements.

use super::{OpDef, scatter_elements};

pub(super) const OP: OpDef = OpDef { name: "Scatter", ..scatter_elements::OP };
