//! SimplifiedLayerNormalization, which ONNX Runtime's optimizer writes for normalization by the root of the mean of squares.

use super::{OpDef, rms_normalization};

pub(super) const OP: OpDef = OpDef { name: "SimplifiedLayerNormalization", ..rms_normalization::OP };
