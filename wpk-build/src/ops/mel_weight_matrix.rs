//! [MelWeightMatrix](https://onnx.ai/onnx/operators/onnx__MelWeightMatrix.html): triangles by which a spectrum becomes bands of the mel scale.

use super::{Context, Imported, OpDef, Refusal};
use crate::graph::Literal;
use crate::onnx::dtype;

pub(super) const OP: OpDef = OpDef { name: "MelWeightMatrix", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let number = |cx: &Context<'_>, i: usize, what: &str| -> Result<f64, Refusal> {
        cx.constant(i, what)?.and_then(|l| l.scalar()).ok_or_else(|| format!("there is no usable {what}").into())
    };
    let bands = number(cx, 0, "num_mel_bins")?;
    let (length, rate) = (number(cx, 1, "dft_length")?, number(cx, 2, "sample_rate")?);
    let (low, high) = (number(cx, 3, "lower_edge_hertz")?, number(cx, 4, "upper_edge_hertz")?);
    if !(1.0..=65536.0).contains(&bands) || !(1.0..=1048576.0).contains(&length) || rate <= 0.0 {
        return Err(format!("{bands} bands of {length} points are not possible").into());
    }
    if bands * length > f64::from(1u32 << 25) {
        return Err(format!("{bands} bands of {length} points are too many").into());
    }
    let t = cx.attrs.int("output_datatype").unwrap_or(1);
    let t = dtype(t as i32).map_err(|t| format!("matrices of {t} are not supported"))?;
    let (bands, bins) = (bands as usize, length as usize / 2 + 1);
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let step = (mel(high) - mel(low)) / (bands + 2) as f64;
    // The bins of the edges and centres of the triangles.
    let edge = |i: usize| {
        let hertz = 700.0 * (10f64.powf((i as f64 * step + mel(low)) / 2595.0) - 1.0);
        ((length + 1.0) * hertz / rate).floor() as i64
    };
    let mut weights = vec![0.0; bins * bands];
    for band in 0..bands {
        let (from, centre, to) = (edge(band), edge(band + 1), edge(band + 2));
        let mut set = |bin: i64, weight: f64| {
            if let Some(w) = usize::try_from(bin).ok().and_then(|b| weights.get_mut(b * bands + band)) {
                *w = weight;
            }
        };
        if from == centre {
            set(centre, 1.0);
        } else {
            (from..=centre).for_each(|bin| set(bin, (bin - from) as f64 / (centre - from) as f64));
        }
        if to > centre {
            (centre..to).for_each(|bin| set(bin, (to - bin) as f64 / (to - centre) as f64));
        }
    }
    Ok(vec![cx.b.constant(Literal::floats(t, &[bins, bands], &weights))])
}
