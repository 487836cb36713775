//! [SpaceToDepth](https://onnx.ai/onnx/operators/onnx__SpaceToDepth.html): blocks of pixels rearranged into channels.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "SpaceToDepth", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let block = cx.block()?;
    let [n, c, h, w] = shape[..] else { return Err(format!("{shape:?} does not have four dimensions").into()) };
    if h % block != 0 || w % block != 0 {
        return Err(format!("{h}x{w} pixels do not make blocks of {block}x{block}").into());
    }
    let x = cx.b.reshape(x, &[n, c, h / block, block, w / block, block])?;
    let x = cx.b.transpose(x, &[0, 3, 5, 1, 2, 4])?;
    Ok(vec![cx.b.reshape(x, &[n, c * block * block, h / block, w / block])?])
}
