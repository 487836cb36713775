//! Records of processors: what a build takes from them is data for the runtime, which chooses by the processor that it finds.

use super::{Key, Records};
use std::collections::BTreeSet;
use wpk_plan::problem::Problem;
use wpk_plan::{CpuSchedule, CpuSchedules, CpuStep, Plan};

/// The schedules of products in some plans, for every kind of processor that there are records of.
pub fn schedules(records: &Records, plans: &[(Vec<usize>, Plan)]) -> Vec<CpuSchedules> {
    let targets: BTreeSet<&str> = records.iter().map(|r| r.arch.as_str()).collect();
    let known = targets.into_iter().filter_map(|target| Some((target, CpuSchedules::of_target(target)?)));
    let found = known.map(|(target, (device, threads))| {
        let mut steps = vec![];
        for (bucket, (_, plan)) in (0..).zip(plans) {
            for (step, s) in (0..).zip(plan.body.steps()) {
                let problem = s.kernel.problem();
                let record = matches!(problem, Problem::Contraction(_)).then(|| records.get(&Key::on(problem, s.kernel.layout(), target)));
                let best = record.flatten().and_then(|r| r.schedule());
                let schedule = best.and_then(|t| CpuSchedule::named(&t.family, &t.schedule));
                steps.extend(schedule.map(|schedule| CpuStep { bucket, step, schedule }));
            }
        }
        CpuSchedules { device: device.to_owned(), threads, steps }
    });
    found.filter(|c| !c.steps.is_empty()).collect()
}
