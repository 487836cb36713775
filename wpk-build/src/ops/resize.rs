//! [Resize](https://onnx.ai/onnx/operators/onnx__Resize.html): interpolation to other extents, axis by axis. Versions 10 to 19.

use super::resampling::{Axis, Coordinates, Mode};
use super::{Context, Imported, OpDef, Refusal};
use crate::graph::{Literal, Op};
use wpk_plan::DType;

pub(super) const OP: OpDef = OpDef { name: "Resize", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let mut x = cx.input(0)?;
    let shape = cx.shape(x);
    let old = cx.opset < 11;
    let axes = match cx.attrs.ints("axes") {
        Some(axes) => cx.axes(&axes, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    let numbers = |i: usize, what: &str| Ok::<_, Refusal>(cx.constant(i, what)?.map(|l| l.to_floats()).filter(|v| !v.is_empty()));
    // An extent that is known at run time only stays as it is.
    let sizes = || -> Result<Option<Vec<f64>>, Refusal> {
        let Some(given) = cx.sizes(3, "sizes")?.filter(|s| s.len() == axes.len()) else { return numbers(3, "sizes") };
        for (size, &d) in given.iter().zip(&axes).filter(|s| s.0.known().is_none()) {
            if *size != cx.b.extent(x, d)? {
                return Err(format!("dimension {d} gets an extent that is computed from a size that is known at run time only").into());
            }
        }
        Ok(Some(cx.extents(&given, "sizes")?.into_iter().map(|n| n as f64).collect()))
    };
    let (roi, scales, sizes) =
        if old { (None, numbers(1, "scales")?, None) } else { (numbers(1, "roi")?, numbers(2, "scales")?, sizes()?) };
    let given = scales.as_ref().or(sizes.as_ref()).ok_or("there are neither scales nor sizes")?;
    if given.len() != axes.len() || given.iter().any(|&s| !s.is_finite() || !(0.0..=1e9).contains(&s)) {
        return Err(format!("scales or sizes {given:?} do not fit {} axes", axes.len()).into());
    }
    let mode = match cx.attrs.text("mode").as_deref() {
        None | Some("nearest") => {
            Mode::Nearest(cx.attrs.text("nearest_mode").unwrap_or_else(|| if old { "floor" } else { "round_prefer_floor" }.to_owned()))
        }
        Some("linear") => Mode::Linear,
        Some("cubic") => Mode::Cubic(cx.attrs.float("cubic_coeff_a").unwrap_or(-0.75)),
        Some(other) => return cx.unsupported("mode", other),
    };
    let rule = cx.attrs.text("coordinate_transformation_mode").unwrap_or_else(|| if old { "asymmetric" } else { "half_pixel" }.to_owned());
    let coordinates = |cx: &Context<'_>, d: usize| {
        Ok::<_, Refusal>(match rule.as_str() {
            "half_pixel" => Coordinates::HalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            "tf_crop_and_resize" => match &roi {
                Some(roi) if roi.len() == 2 * axes.len() => Coordinates::Crop(roi[d], roi[axes.len() + d]),
                _ => return Err("coordinate_transformation_mode=tf_crop_and_resize needs a roi".into()),
            },
            other => return cx.unsupported("coordinate_transformation_mode", other),
        })
    };
    let extents: Vec<f64> = axes.iter().map(|&d| shape[d] as f64).collect();
    let scale: Vec<f64> = match &sizes {
        Some(sizes) if scales.is_none() => {
            let each = sizes.iter().zip(&extents).map(|(s, n)| s / n);
            match cx.attrs.text("keep_aspect_ratio_policy").as_deref() {
                None | Some("stretch") => each.collect(),
                Some("not_larger") => vec![each.fold(f64::INFINITY, f64::min); axes.len()],
                Some("not_smaller") => vec![each.fold(0.0, f64::max); axes.len()],
                Some(other) => return cx.unsupported("keep_aspect_ratio_policy", other),
            }
        }
        _ => given.clone(),
    };
    let keeps = sizes.is_some() && cx.attrs.text("keep_aspect_ratio_policy").is_some_and(|p| p != "stretch");
    let (antialias, exclude_outside) = (cx.attrs.flag("antialias", false), cx.attrs.flag("exclude_outside", false));
    let value = cx.attrs.float("extrapolation_value").unwrap_or(0.0);
    let mut outside = vec![];
    for (i, &d) in axes.iter().enumerate() {
        let output = match &sizes {
            Some(sizes) if scales.is_none() && !keeps => sizes[i] as usize,
            Some(_) if scales.is_none() => (scale[i] * extents[i] + 0.5).floor() as usize,
            _ => (scale[i] * extents[i] + 1e-9).floor() as usize,
        };
        let axis = Axis {
            input: shape[d],
            output,
            scale: scale[i],
            coordinates: coordinates(cx, i)?,
            mode: mode.clone(),
            antialias,
            exclude_outside,
        };
        if scale[i] != 1.0 || output != shape[d] || rule == "tf_crop_and_resize" {
            x = axis.apply(cx, x, d)?;
        }
        if rule == "tf_crop_and_resize" {
            outside.push((d, axis.outside()));
        }
    }
    for (d, flags) in outside.into_iter().filter(|o| o.1.contains(&true)) {
        let rank = shape.len();
        let flags: Vec<i64> = flags.into_iter().map(i64::from).collect();
        let mut extent = vec![1; rank];
        extent[d] = flags.len();
        let mask = cx.b.constant(Literal::ints(DType::Bool, &extent, &flags));
        let fill = cx.b.scalar(value, cx.dtype(x));
        let full = cx.shape(x);
        let mask = cx.b.one(Op::Expand(full), &[mask])?;
        x = cx.b.map(&[mask, fill, x], |f, i| f.select(i[0], i[1], i[2]))?;
    }
    Ok(vec![x])
}
