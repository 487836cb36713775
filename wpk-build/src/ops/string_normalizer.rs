//! [StringNormalizer](https://onnx.ai/onnx/operators/onnx__StringNormalizer.html): stop words left out, upper or lower case.
//! The result's extents depend on the text, which therefore must be constant.

use super::{Context, Imported, OpDef};
use crate::graph::Literal;

pub(super) const OP: OpDef = OpDef { name: "StringNormalizer", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let Some(input) = cx.constant(0, "the text")? else { return Err("input 0 is missing".into()) };
    let stopwords = cx.attrs.texts("stopwords");
    let action = cx.attrs.text("case_change_action").unwrap_or_else(|| "NONE".to_owned());
    let sensitive = cx.attrs.flag("is_case_sensitive", false);
    let cased = |s: &str| match action.as_str() {
        "LOWER" => s.to_lowercase(),
        "UPPER" => s.to_uppercase(),
        _ => s.to_owned(),
    };
    let same = |a: &str, b: &str| if sensitive { a == b } else { a.to_lowercase() == b.to_lowercase() };
    let mut kept: Vec<String> = input.to_texts().iter().filter(|t| !stopwords.iter().any(|s| same(s, t))).map(|t| cased(t)).collect();
    // A result is never empty: one empty string stands for nothing.
    if kept.is_empty() {
        kept.push(String::new());
    }
    let shape = match input.shape.as_slice() {
        [_] => vec![kept.len()],
        [1, _] => vec![1, kept.len()],
        other => return Err(format!("text of extents {other:?} instead of [n] or [1, n]").into()),
    };
    let literal = Literal::text(&shape, &kept.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(vec![cx.b.constant(literal)])
}
