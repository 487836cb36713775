//! [Reshape](https://onnx.ai/onnx/operators/onnx__Reshape.html): the same elements under extents that a constant gives; 0 keeps one, -1 takes the rest.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "Reshape", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let given = cx.sizes(1, "shape")?.ok_or("there is no shape")?;
    let wanted: Vec<i64> = given.iter().map(|n| cx.b.most(n)).collect();
    let zero = cx.attrs.flag("allowzero", false);
    let mut out = vec![];
    let mut open = None;
    for (d, &n) in wanted.iter().enumerate() {
        out.push(match n {
            0 if !zero => *shape.get(d).ok_or_else(|| format!("shape {wanted:?} keeps dimension {d} of {shape:?}"))?,
            -1 if open.is_none() => {
                open = Some(d);
                1
            }
            n => usize::try_from(n).map_err(|_| format!("shape {wanted:?} is not allowed"))?,
        });
    }
    if let Some(d) = open {
        let len: usize = shape.iter().product();
        let rest = out.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(0);
        out[d] = len.checked_div(rest).filter(|n| n * rest == len).ok_or_else(|| format!("{shape:?} cannot be reshaped to {wanted:?}"))?;
    }
    let out = cx.b.reshape(x, &out)?;
    cx.agree(out, 0, &given)?;
    Ok(vec![out])
}
