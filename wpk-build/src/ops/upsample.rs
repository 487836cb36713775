//! [Upsample](https://onnx.ai/onnx/operators/onnx__Upsample.html): enlargement by factors. Versions 7 and 9; `Resize` replaced it.

use super::resampling::{Axis, Coordinates, Mode};
use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "Upsample", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let mut x = cx.input(0)?;
    let shape = cx.shape(x);
    let scales = match cx.constant(1, "scales")? {
        Some(literal) => literal.to_floats(),
        None => cx.attrs.floats("scales").unwrap_or_default(),
    };
    if scales.len() != shape.len() || scales.iter().any(|s| !(0.0..1e9).contains(s)) {
        return Err(format!("scales {scales:?} do not fit {shape:?}").into());
    }
    let mode = match cx.attrs.text("mode").as_deref() {
        None | Some("nearest") => Mode::Nearest("floor".to_owned()),
        Some("linear" | "bilinear") => Mode::Linear,
        Some(other) => return cx.unsupported("mode", other),
    };
    for (d, &scale) in scales.iter().enumerate().filter(|s| *s.1 != 1.0) {
        let output = (scale * shape[d] as f64 + 1e-9).floor() as usize;
        let axis = Axis {
            input: shape[d],
            output,
            scale,
            coordinates: Coordinates::Asymmetric,
            mode: mode.clone(),
            antialias: false,
            exclude_outside: false,
        };
        x = axis.apply(cx, x, d)?;
    }
    Ok(vec![x])
}
