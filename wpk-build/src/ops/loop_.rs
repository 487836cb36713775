//! [Loop](https://onnx.ai/onnx/operators/onnx__Loop.html): its body as often as its trip count says, which is known at build time. Where the
//! condition is not, states keep their values once it is false, and as many results are collected as there were rounds.

use super::{Context, Imported, OpDef, Refusal, counted};
use crate::graph::{Literal, Op, ValueId};
use wpk_plan::{Binary, DType};

pub(super) const OP: OpDef = OpDef { name: "Loop", import };

/// Most rounds of a loop that ends only by its condition, or whose condition is computed at run time.
const ROUNDS: i64 = 4096;

fn import(cx: &mut Context<'_>) -> Imported {
    let trips = cx.constant(0, "the trip count")?.and_then(|l| l.to_ints().first().copied());
    let known = |cx: &Context<'_>, v: ValueId| cx.b.fixed(v).and_then(Literal::scalar).map(|x| x != 0.0);
    let mut going = cx.optional(1);
    let mut states: Vec<ValueId> =
        (2..cx.inputs.len()).map(|i| cx.optional(i).ok_or_else(|| Refusal::from("a state is missing"))).collect::<Result<_, _>>()?;
    let count = states.len();
    let mut scans: Vec<Vec<ValueId>> = vec![];
    // How many rounds there were, where that is known at run time only.
    let mut rounds: Option<ValueId> = None;
    let mut round = 0;
    while trips.is_none_or(|n| round < n) {
        let decided = going.map_or(Some(true), |g| known(cx, g));
        if decided == Some(false) {
            break;
        }
        if round >= ROUNDS && (trips.is_none() || decided.is_none()) {
            return Err(Refusal {
                message: format!("no constant bounds its rounds by {ROUNDS}"),
                help: Some("export the loop with a constant trip count".to_owned()),
            });
        }
        let number = cx.b.constant(Literal::ints(DType::I64, &[], &[round]));
        let before = match going {
            Some(g) => g,
            None => cx.b.constant(Literal::ints(DType::Bool, &[], &[1])),
        };
        let mut results = cx.body("body", &[&[number, before], states.as_slice()].concat())?;
        if results.len() < 1 + count {
            return Err(format!("its body gives {} results for {count} states", results.len()).into());
        }
        let found = results.split_off(1 + count);
        if decided.is_none() && !found.is_empty() {
            let so_far = rounds.unwrap_or_else(|| cx.b.scalar(round as f64, DType::I64));
            let before = cx.b.reshape(before, &[])?;
            let own = cx.b.cast(before, DType::I64)?;
            rounds = Some(cx.b.binary(Binary::Add, so_far, own)?);
        }
        scans.resize(found.len(), vec![]);
        scans.iter_mut().zip(found).for_each(|(all, v)| all.push(v));
        let after = results.remove(0);
        (going, states) = match decided {
            None => {
                let kept = results.iter().zip(&states).map(|(&new, &old)| cx.chosen(before, new, old)).collect::<Result<_, _>>()?;
                let (before, after) = (cx.b.reshape(before, &[])?, cx.b.reshape(after, &[])?);
                (Some(cx.b.binary(Binary::And, before, after)?), kept)
            }
            // Without a condition to begin with, the body's does not count.
            Some(_) => (going.map(|_| after), results),
        };
        round += 1;
    }
    if round == 0 && cx.wanted.len() > count {
        return Err("it collects the results of no round, whose extents are not known".into());
    }
    for all in scans {
        let all = stacked(cx, &all, 0)?;
        states.push(match rounds {
            Some(count) => counted::of(cx.b, all, 0, count),
            None => all,
        });
    }
    Ok(states)
}

/// Values one after another along a new dimension.
pub(super) fn stacked(cx: &mut Context<'_>, values: &[ValueId], axis: usize) -> Result<ValueId, Refusal> {
    let with_one = |cx: &mut Context<'_>, v: ValueId| {
        let mut shape = cx.shape(v);
        shape.insert(axis.min(shape.len()), 1);
        cx.b.reshape(v, &shape)
    };
    let all: Vec<ValueId> = values.iter().map(|&v| with_one(cx, v)).collect::<Result<_, _>>()?;
    Ok(cx.b.one(Op::Concat(axis), &all)?)
}
