//! Where a plan spends its time.

use std::fmt;
use wpk_plan::Plan;

/// The times of a plan and of its steps; prints as a table, slowest first, with what of the whole the steps do not account for.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The architecture that the plan is for.
    pub target: String,
    /// Nanoseconds of the whole plan.
    pub whole: f64,
    /// The steps in their order.
    pub steps: Vec<Step>,
}

/// A step's part.
#[derive(Debug, Clone)]
pub struct Step {
    /// Nanoseconds by itself.
    pub ns: f64,
    /// Scalar operations, counting a multiply-add as two.
    pub operations: u64,
    /// Bytes that are read and written at least.
    pub bytes: u64,
    /// The problem, and how it is computed.
    pub what: String,
    /// The nodes of the model behind it.
    pub origin: String,
}

impl Profile {
    pub(crate) fn new(plan: &Plan, times: &[f64], whole: f64) -> Self {
        let steps = plan.body.steps().into_iter().zip(times).map(|(step, &ns)| {
            let problem = step.kernel.problem();
            let what = format!("{} {} [{}]", problem.family(), problem.describe(), step.why);
            Step { ns, operations: problem.operations(), bytes: problem.bytes(), what, origin: step.origin.clone() }
        });
        Self { target: plan.target.clone(), whole, steps: steps.collect() }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: f64 = self.steps.iter().map(|s| s.ns).sum();
        let mut order: Vec<(usize, &Step)> = self.steps.iter().enumerate().collect();
        order.sort_by(|a, b| b.1.ns.total_cmp(&a.1.ns));
        writeln!(f, "plan for {}: {:.4} ms", self.target, self.whole / 1e6)?;
        for (i, s) in order {
            let (share, ns) = (s.ns / total.max(1.0) * 100.0, s.ns.max(1.0));
            let [rate, bandwidth] = [s.operations, s.bytes].map(|n| n as f64 / ns);
            let us = s.ns / 1e3;
            writeln!(f, "{share:5.1} % {us:9.2} us {rate:9.1} GFLOP/s {bandwidth:7.1} GB/s  {i:3} {}  ; {}", s.what, s.origin)?;
        }
        let rest = (self.whole - total) / 1e3;
        writeln!(f, "        {rest:9.2} us not accounted for by {} steps timed one by one", self.steps.len())
    }
}
