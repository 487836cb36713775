//! Pooling.

use super::contraction::advance;
use super::{Tensor, read};
use wpk_plan::View;
use wpk_plan::problem::{Window, WindowKind};

pub(super) fn eval(p: &Window, inputs: &[&Tensor], out: &mut [Tensor]) {
    let x = read(inputs[0], &p.input);
    let (shape, strides) = (&p.input.view.shape, View::dense(&p.input.view.shape).strides);
    let window: Vec<usize> = p.dims.iter().map(|d| d.size).collect();
    let mut point = vec![0; shape.len()];
    let targets: Vec<usize> = p.output.view.offsets().collect();
    let index_targets: Option<Vec<usize>> = p.indices.as_ref().map(|i| i.view.offsets().collect());
    for (o, &to) in targets.iter().enumerate() {
        let (mut sum, mut count, mut best) = (0.0, 0usize, None::<(f64, i64, usize)>);
        let mut tap = vec![0; shape.len()];
        for _ in 0..window.iter().product() {
            let (mut inside, mut padded, mut at) = (true, true, 0);
            for (d, dim) in p.dims.iter().enumerate() {
                let i = (point[d] * dim.stride + tap[d] * dim.dilation) as i64 - dim.pad as i64;
                inside &= (0..shape[d] as i64).contains(&i);
                padded &= i < (shape[d] + dim.pad_end) as i64;
                at += i * strides[d];
            }
            count += usize::from(if p.count_pad { padded } else { inside });
            if inside {
                let (v, i, at) = (x.f(at as usize), x.i(at as usize), at as usize);
                sum += v;
                let better =
                    |&(b, bi, _): &(f64, i64, usize)| if p.input.dtype.is_float() { v > b || v.is_nan() && !b.is_nan() } else { i > bi };
                if best.as_ref().is_none_or(better) {
                    best = Some((v, i, at));
                }
            }
            advance(&mut tap, &window);
        }
        match p.kind {
            WindowKind::Max => match best {
                Some((_, _, at)) => out[0].set(to, &x, at),
                None if p.output.dtype.is_float() => super::map::store(&mut out[0], to, super::scalar::Value::F(f64::NEG_INFINITY)),
                None => super::map::store(&mut out[0], to, super::scalar::Value::I(p.output.dtype.int_range().0)),
            },
            WindowKind::Sum => super::map::store(&mut out[0], to, super::scalar::Value::F(sum)),
            WindowKind::Mean => super::map::store(&mut out[0], to, super::scalar::Value::F(sum / count as f64)),
        }
        if let Some(targets) = &index_targets {
            super::map::store(&mut out[1], targets[o], super::scalar::Value::I(best.map_or(0, |b| b.2 as i64)));
        }
        advance(&mut point, &p.output.view.shape);
    }
}
