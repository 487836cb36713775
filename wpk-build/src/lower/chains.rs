//! Products around a depthwise convolution as one step, which makes them by bands of rows: what lies between them stays in a cache and takes no
//! memory of the plan. Inverted residuals (MobileNetV2, M. Sandler et al., 2018) are 1x1, depthwise and 1x1.

use super::steps::{Buffer, Draft, Drafts};
use std::collections::BTreeMap;
use wpk_plan::problem::{Chain, Problem, Source, Stage};
use wpk_plan::{DType, WeightLayout};

/// Bytes of an intermediate from which on it does not stay in the second-level cache by itself.
const LARGE: usize = 512 << 10;

/// Operations for each byte of an intermediate above which other caches bring it while others are multiplied.
const BUSY: u64 = 32;
/// A depth for which products of windows are as good one by one.
const SHORT: usize = 64;

/// Joins the steps of chains whose intermediates are large and that nothing else reads.
pub fn join(drafts: &mut Drafts) {
    let mut uses: BTreeMap<Buffer, usize> = BTreeMap::new();
    drafts.steps.iter().flat_map(|d| &d.args).for_each(|a| *uses.entry(a.0).or_default() += 1);
    let between = |d: &Draft, next: &Draft| {
        let (buffer, _) = d.args[d.args.len() - 1];
        let (Problem::Contraction(c), Buffer::Arena(i)) = (&d.problem, buffer) else { return None };
        (c.rows_apart().is_some() && next.args[0].0 == buffer && uses[&buffer] == 2).then_some(drafts.arena[i])
    };
    let steps = &drafts.steps;
    let joins = |at: usize, count: usize| {
        let kinds: Vec<Kind> = steps[at..].iter().take(count).map_while(kind).collect();
        let fits = match &kinds[..] {
            [Kind::Product(one), Kind::Depthwise, Kind::Product(other)] => one == other,
            [Kind::Depthwise, Kind::Product(_)] | [Kind::Product(_), Kind::Depthwise] => true,
            _ => false,
        };
        let sizes: Option<Vec<usize>> = (0..count - 1).map(|i| between(steps.get(at + i)?, steps.get(at + i + 1)?)).collect();
        let operations: u64 = steps[at..].iter().take(count).map(|d| d.problem.operations()).sum();
        let pays = |sizes: Vec<usize>| sizes.iter().any(|&n| n >= LARGE) && operations <= BUSY * sizes.iter().sum::<usize>() as u64;
        fits && kinds.len() == count && sizes.is_some_and(pays)
    };
    let (mut joined, mut at) = (vec![], 0);
    while at < steps.len() {
        let count = [3, 2].into_iter().find(|&count| joins(at, count)).unwrap_or(1);
        joined.push(if count > 1 { chain(&steps[at..at + count]) } else { steps[at].clone() });
        at += count;
    }
    drafts.steps = joined;
}

enum Kind {
    /// A product of pixels by packed weights, in `f32` or in pairs of bfloat16.
    Product(WeightLayout),
    Depthwise,
}

fn kind(d: &Draft) -> Option<Kind> {
    let Problem::Contraction(c) = &d.problem else { return None };
    let roles = c.roles();
    if c.dtype != DType::F32 || c.sum != DType::F32 || c.out.dtype != DType::F32 {
        return None;
    }
    if d.layout == WeightLayout::Dense && c.channelwise().is_some() {
        return Some(Kind::Depthwise);
    }
    // A longer depth of windows may be computed by fewer products, all at once.
    let one_by_one = roles.taps.iter().all(|&l| c.space[l] == 1) || roles.count(&roles.k()) < SHORT;
    let packed = matches!(d.layout, WeightLayout::Panels16 | WeightLayout::Pairs16) && roles.count(&roles.batch) == 1;
    (one_by_one && packed).then_some(Kind::Product(d.layout))
}

/// Some steps as one; its arguments are theirs but for what lies between them.
fn chain(steps: &[Draft]) -> Draft {
    let (mut stages, mut args) = (vec![], vec![]);
    for (at, step) in (0..).zip(steps) {
        let own = step.problem.inputs().len();
        let sources = (0..own).map(|i| match at {
            1.. if i == 0 => Source::Stage(at - 1, 0),
            _ => {
                args.push(step.args[i]);
                Source::Operand(args.len() as u32 - 1)
            }
        });
        stages.push(Stage { sources: sources.collect(), problem: step.problem.clone() });
    }
    let last = &steps[steps.len() - 1];
    args.extend(last.args.last());
    Draft {
        problem: Problem::Chain(Chain { stages }),
        layout: steps.iter().map(|s| s.layout).find(|&layout| layout != WeightLayout::Dense).unwrap_or(WeightLayout::Dense),
        args,
        origin: steps.iter().map(|s| s.origin.as_str()).collect::<Vec<_>>().join(" + "),
        why: "by bands of rows, since what lies between is large".to_owned(),
        launch: None,
    }
}
