//! Several problems as one, whose intermediate results stay on chip.

use super::{Family, Operand, Problem};
use crate::codec::{codec_enum, codec_struct};

/// Where a stage reads one of its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An operand of the chain, by number.
    Operand(u32),
    /// A result of an earlier stage: the stage, and the number of the result.
    Stage(u32, u32),
}
codec_enum!(Source { 0 => Operand(i), 1 => Stage(stage, output) });

/// A problem in a chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// What it computes.
    pub problem: Problem,
    /// Where each of its inputs comes from.
    pub sources: Vec<Source>,
}
codec_struct!(Stage { problem, sources });

/// Stages in order; the results of the last are the chain's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chain {
    /// At least one.
    pub stages: Vec<Stage>,
}
codec_struct!(Chain { stages });

impl Chain {
    /// Every read of an operand of the chain: its number, and the operand as the stage sees it.
    fn reads(&self) -> Vec<(u32, Operand)> {
        let pairs = self.stages.iter().flat_map(|s| s.sources.iter().copied().zip(s.problem.inputs()));
        pairs.filter_map(|(source, o)| if let Source::Operand(i) = source { Some((i, o)) } else { None }).collect()
    }
}

impl Chain {
    /// The operands that are second factors in the layout of the step, and their stages: those of depthwise convolutions lie by tap in any.
    pub fn packed(&self) -> Vec<(usize, usize)> {
        let packed = |(at, stage): (usize, &Stage)| match (&stage.problem, stage.sources.get(1)) {
            (Problem::Contraction(c), Some(Source::Operand(i))) if c.channelwise().is_none() => Some((*i as usize, at)),
            _ => None,
        };
        self.stages.iter().enumerate().filter_map(packed).collect()
    }
}

impl Family for Chain {
    const NAME: &'static str = "chain";
    fn inputs(&self) -> Vec<Operand> {
        let reads = self.reads();
        let count = reads.iter().map(|r| r.0 + 1).max().unwrap_or(0);
        (0..count).filter_map(|i| reads.iter().find(|r| r.0 == i).map(|r| r.1.clone())).collect()
    }
    fn outputs(&self) -> Vec<Operand> {
        self.stages.last().map(|s| s.problem.outputs()).unwrap_or_default()
    }
    fn describe(&self) -> String {
        let stages: Vec<String> = self.stages.iter().map(|s| format!("{} {}", s.problem.family(), s.problem.describe())).collect();
        stages.join(" then ")
    }
    fn operations(&self) -> u64 {
        self.stages.iter().map(|s| s.problem.operations()).sum()
    }
    fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.stages.iter().flat_map(|s| s.problem.faults()).collect();
        if self.stages.is_empty() {
            faults.push("a chain without stages".to_owned());
        }
        let reads = self.reads();
        let count = reads.iter().map(|r| r.0 + 1).max().unwrap_or(0);
        if (0..count).any(|i| !reads.iter().any(|r| r.0 == i)) {
            faults.push("an operand of the chain is read by no stage".to_owned());
        }
        for (at, stage) in self.stages.iter().enumerate() {
            let inputs = stage.problem.inputs();
            if inputs.len() != stage.sources.len() {
                faults.push(format!("stage {at} has {} sources for {} inputs", stage.sources.len(), inputs.len()));
            }
            for (source, wanted) in stage.sources.iter().zip(&inputs) {
                let found = match *source {
                    Source::Operand(i) => reads.iter().find(|r| r.0 == i).map(|r| r.1.clone()),
                    Source::Stage(s, o) if (s as usize) < at => self.stages[s as usize].problem.outputs().get(o as usize).cloned(),
                    Source::Stage(..) => None,
                };
                let reach = |o: &Operand| o.view.span().map(|s| s.1);
                let fits = found.is_some_and(|f| f.dtype == wanted.dtype && reach(wanted) <= reach(&f));
                if !fits {
                    faults.push(format!("stage {at} reads {source:?}, which is not there or differs in type or extent"));
                }
            }
        }
        faults
    }
}
