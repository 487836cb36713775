//! Chains: one stage after the other.

use super::{Rounding, Tensor, eval as eval_problem};
use wpk_plan::problem::{Chain, Source};

pub(super) fn eval(p: &Chain, inputs: &[&Tensor], out: &mut [Tensor], rounding: Rounding) {
    let mut results: Vec<Vec<Tensor>> = vec![];
    for stage in &p.stages {
        let operands: Vec<&Tensor> = stage
            .sources
            .iter()
            .filter_map(|source| match *source {
                Source::Operand(i) => inputs.get(i as usize).copied(),
                Source::Stage(s, o) => results.get(s as usize)?.get(o as usize),
            })
            .collect();
        let result = eval_problem(&stage.problem, &operands, rounding);
        results.push(result);
    }
    if let Some(last) = results.pop() {
        out.iter_mut().zip(last).for_each(|(to, t)| *to = t);
    }
}
