//! [Gradient](https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Gradient.html): derivatives of the sum of a tensor by
//! tensors of the same graph, at the point where the graph computes them.

use super::{Context, Imported, OpDef, Refusal};
use crate::gradient::gradient;

pub(super) const OP: OpDef = OpDef { name: "ai.onnx.preview.training::Gradient", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let named = |name: &str| cx.state.named(name).ok_or_else(|| Refusal::from(format!("there is no tensor {name:?} before it")));
    let xs = cx.attrs.texts("xs").iter().map(|x| named(x)).collect::<Result<Vec<_>, _>>()?;
    let y = named(&cx.attrs.text("y").unwrap_or_default())?;
    if cx.all()?.get(..xs.len()) != Some(xs.as_slice()) {
        return Err("the derivative is only supported at the values that the graph computes (inputs equal to `xs`)".into());
    }
    Ok(gradient(cx.b, y, &xs)?)
}
