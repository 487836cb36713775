//! Where a plan spends its time, as a table.

use std::fmt::Write;
use wpk_plan::Plan;

/// One line per step, slowest first, from nanoseconds per step, and what of the whole they do not account for.
pub fn table(plan: &Plan, times: &[f64], whole: f64) -> String {
    let steps = plan.body.steps();
    let total: f64 = times.iter().sum();
    let mut order: Vec<usize> = (0..steps.len().min(times.len())).collect();
    order.sort_by(|&a, &b| times[b].total_cmp(&times[a]));
    let mut text = format!("plan for {}: {:.4} ms\n", plan.target, whole / 1e6);
    for i in order {
        let (step, ns) = (steps[i], times[i]);
        let problem = step.kernel.problem();
        // Writing to text cannot fail.
        let _ = writeln!(
            text,
            "{:5.1} % {:9.2} us {:9.1} GFLOP/s  {i:3} {} {} [{}]  ; {}",
            ns / total.max(1.0) * 100.0,
            ns / 1e3,
            problem.operations() as f64 / ns.max(1.0),
            problem.family(),
            problem.describe(),
            step.why,
            step.origin
        );
    }
    let rest = whole - total;
    let _ = writeln!(text, "        {:9.2} us not accounted for by {} steps timed one by one", rest / 1e3, times.len());
    text
}
