//! [NegativeLogLikelihoodLoss](https://onnx.ai/onnx/operators/onnx__NegativeLogLikelihoodLoss.html): the negative score of each target class, weighted and reduced.

use super::{Context, Imported, OpDef, Refusal};
use crate::graph::{Op, ValueId};
use wpk_plan::problem::ReduceKind;
use wpk_plan::{Binary, Unary};

pub(super) const OP: OpDef = OpDef { name: "NegativeLogLikelihoodLoss", import };

fn import(cx: &mut Context<'_>) -> Imported {
    let scores = cx.input(0)?;
    Ok(vec![loss(cx, scores)?])
}

/// The loss of scores `[batch, classes, ...]` for the classes `[batch, ...]` in input 1 and the weights of classes in input 2.
pub(super) fn loss(cx: &mut Context<'_>, scores: ValueId) -> Result<ValueId, Refusal> {
    let (t, extents) = (cx.dtype(scores), cx.shape(scores));
    let target = cx.input(1)?;
    let shape = cx.shape(target);
    if extents.len() < 2 || [&extents[..1], &extents[2..]].concat() != shape {
        return Err(format!("targets of {shape:?} do not fit scores of {extents:?}").into());
    }
    let ignored = cx.attrs.int("ignore_index");
    let class = match ignored {
        // An ignored class need not exist.
        Some(ignored) => cx.b.map(&[target], |f, i| {
            let (ignored, zero) = (f.integer(ignored, f.dtype(i[0])), f.integer(0, f.dtype(i[0])));
            let skip = f.binary(Binary::Eq, i[0], ignored);
            f.select(skip, zero, i[0])
        })?,
        None => target,
    };
    let mut weight = match cx.optional(2) {
        Some(weights) => Some(cx.b.one(Op::Gather { axis: 0 }, &[weights, class])?),
        None => ignored.map(|_| cx.b.scalar(1.0, t)),
    };
    if let (Some(own), Some(ignored)) = (weight, ignored) {
        weight = Some(cx.b.map(&[target, own], |f, i| {
            let (ignored, zero) = (f.integer(ignored, f.dtype(i[0])), f.constant(0.0, t));
            let skip = f.binary(Binary::Eq, i[0], ignored);
            f.select(skip, zero, i[1])
        })?);
    }
    let index = cx.b.reshape(class, &[&shape[..1], &[1], &shape[1..]].concat())?;
    let picked = cx.b.one(Op::GatherElements { axis: 1 }, &[scores, index])?;
    let picked = cx.b.reshape(picked, &shape)?;
    let mut each = cx.b.unary(Unary::Neg, picked)?;
    if let Some(weight) = weight {
        each = cx.b.binary(Binary::Mul, each, weight)?;
    }
    let all: Vec<usize> = (0..shape.len()).collect();
    let mut total = |kind, x| cx.b.reduce(kind, x, &all).and_then(|y| cx.b.reshape(y, &[]));
    match (cx.attrs.text("reduction").as_deref().unwrap_or("mean"), weight) {
        ("none", _) => Ok(each),
        ("sum", _) => Ok(total(ReduceKind::Sum, each)?),
        ("mean", None) => Ok(total(ReduceKind::Mean, each)?),
        ("mean", Some(weight)) => {
            let (sum, weights) = (total(ReduceKind::Sum, each)?, total(ReduceKind::Sum, weight)?);
            Ok(cx.b.binary(Binary::Div, sum, weights)?)
        }
        (other, _) => cx.unsupported("reduction", other),
    }
}
