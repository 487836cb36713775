//! [DepthToSpace](https://onnx.ai/onnx/operators/onnx__DepthToSpace.html): channels rearranged into blocks of pixels.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "DepthToSpace", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let block = cx.block()?;
    let [n, c, h, w] = shape[..] else { return Err(format!("{shape:?} does not have four dimensions").into()) };
    if c % (block * block) != 0 {
        return Err(format!("{c} channels do not make blocks of {block}x{block}").into());
    }
    let c = c / (block * block);
    let (parts, perm) = match cx.attrs.text("mode").as_deref() {
        None | Some("DCR") => ([n, block, block, c, h, w], [0, 3, 4, 1, 5, 2]),
        Some("CRD") => ([n, c, block, block, h, w], [0, 1, 4, 2, 5, 3]),
        Some(other) => return cx.unsupported("mode", other),
    };
    let x = cx.b.reshape(x, &parts)?;
    let x = cx.b.transpose(x, &perm)?;
    Ok(vec![cx.b.reshape(x, &[n, c, h * block, w * block])?])
}
