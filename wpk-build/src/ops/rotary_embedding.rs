//! [RotaryEmbedding](https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html): pairs of elements of every head turned by the angle of their position.

use super::{Context, Imported, OpDef};
use crate::graph::Op;
use wpk_plan::Binary;

pub(super) const OP: OpDef = OpDef { name: "RotaryEmbedding", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let input = cx.input(0)?;
    let shape = cx.shape(input);
    let number = |name: &str| cx.attrs.int(name).and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let (count, turned) = (number("num_heads"), number("rotary_embedding_dim"));
    // As [batch, rows, heads, depth].
    let x = match shape[..] {
        [_, _, _, _] => cx.b.transpose(input, &[0, 2, 1, 3])?,
        [batch, rows, width] => {
            let count = count.filter(|n| width % n == 0).ok_or_else(|| format!("num_heads does not divide a width of {width}"))?;
            cx.b.reshape(input, &[batch, rows, count, width / count])?
        }
        _ => return Err(format!("{shape:?} has neither three nor four dimensions").into()),
    };
    let [batch, rows, count, depth] = cx.shape(x)[..] else { return Err("the input has no heads".into()) };
    let turned = turned.unwrap_or(depth);
    if turned > depth || turned % 2 != 0 {
        return Err(format!("rotary_embedding_dim={turned} does not fit heads of {depth}").into());
    }
    let half = turned / 2;
    let mut angles = vec![];
    for i in [1, 2] {
        let cache = cx.input(i)?;
        let own = match cx.optional(3) {
            Some(positions) => cx.b.one(Op::Gather { axis: 0 }, &[cache, positions])?,
            None => cache,
        };
        if cx.shape(own).last() != Some(&half) {
            return Err(format!("input {i} of {:?} has no {half} angles a position", cx.shape(cache)).into());
        }
        angles.push(cx.b.reshape(own, &[batch, rows, 1, half])?);
    }
    // Pairs are neighbours, or lie half a head apart: [batch, rows, heads, half, 2] or [batch, rows, heads, 2, half].
    let interleaved = cx.attrs.flag("interleaved", false);
    let (pairs, side) = if interleaved { ([half, 2], 4) } else { ([2, half], 3) };
    let head = cx.b.range(x, 3, 0, turned)?;
    let head = cx.b.reshape(head, &[batch, rows, count, pairs[0], pairs[1]])?;
    let mut halves = vec![];
    for start in 0..2 {
        let part = cx.b.range(head, side, start, 1)?;
        halves.push(cx.b.reshape(part, &[batch, rows, count, half])?);
    }
    let inputs = [halves[0], halves[1], angles[0], angles[1]];
    let first = cx.b.map(&inputs, |f, i| {
        let (along, across) = (f.binary(Binary::Mul, i[2], i[0]), f.binary(Binary::Mul, i[3], i[1]));
        f.binary(Binary::Sub, along, across)
    })?;
    let second = cx.b.map(&inputs, |f, i| {
        let (across, along) = (f.binary(Binary::Mul, i[3], i[0]), f.binary(Binary::Mul, i[2], i[1]));
        f.binary(Binary::Add, across, along)
    })?;
    let mut single = [batch, rows, count, half, half];
    single[side] = 1;
    let (first, second) = (cx.b.reshape(first, &single)?, cx.b.reshape(second, &single)?);
    let both = cx.b.one(Op::Concat(side), &[first, second])?;
    let mut y = cx.b.reshape(both, &[batch, rows, count, turned])?;
    if turned < depth {
        let rest = cx.b.range(x, 3, turned, depth - turned)?;
        y = cx.b.one(Op::Concat(3), &[y, rest])?;
    }
    Ok(vec![if shape.len() == 4 { cx.b.transpose(y, &[0, 2, 1, 3])? } else { cx.b.reshape(y, &shape)? }])
}
