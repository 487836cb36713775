//! [If](https://onnx.ai/onnx/operators/onnx__If.html): one of two graphs; where the condition is known only at run time, both, and a choice
//! of every element.

use super::{Context, Imported, OpDef};

pub(super) const OP: OpDef = OpDef { name: "If", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let condition = cx.input(0)?;
    if cx.shape(condition).iter().product::<usize>() != 1 {
        return Err(format!("a condition of {:?} is not one truth value", cx.shape(condition)).into());
    }
    if let Some(known) = cx.b.fixed(condition).and_then(crate::graph::Literal::scalar) {
        return cx.body(if known != 0.0 { "then_branch" } else { "else_branch" }, &[]);
    }
    let (yes, no) = (cx.body("then_branch", &[])?, cx.body("else_branch", &[])?);
    if yes.len() != no.len() {
        return Err(format!("its branches give {} and {} results", yes.len(), no.len()).into());
    }
    yes.into_iter().zip(no).map(|(x, y)| cx.chosen(condition, x, y)).collect()
}
