//! Single convolutions beside a peer: the best that a search and the libraries find, as `gpu_peers.py` prints its times.

use super::problems;
use crate::Outcome;
use crate::measure::Surroundings;
use crate::search::space::FamilySpace;
use crate::search::{self, History, Searcher, Space, Values, first};
use crate::worker::{Limits, Worker};
use clap::Args;
use serde_json::json;
use wpk_build::records::{Key, Timed};
use wpk_kernels::arch::Arch;
use wpk_kernels::family::spaces;
use wpk_plan::WeightLayout;
use wpk_plan::problem::Problem;

#[derive(Args)]
pub struct ConvsArgs {
    /// The CUDA device
    #[arg(long, default_value_t = 0)]
    device: usize,
    /// The architecture
    #[arg(long, default_value = "sm_90a")]
    gpu: String,
    /// The arithmetic: fp32, tf32, fp16 or bf16
    #[arg(long, default_value = "fp16", value_parser = crate::precision)]
    precision: wpk_build::Precision,
    /// Images of an input
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Schedules of a family that are measured
    #[arg(long, default_value_t = 96)]
    measure: usize,
}

/// Schedules that are measured at once.
const BATCH: usize = 32;

pub fn convs(args: &ConvsArgs) -> Outcome {
    let arch = Arch::named(&args.gpu).ok_or("there is no such architecture")?;
    let mut worker = Worker::new(vec!["--device".to_owned(), args.device.to_string()], Limits::default());
    for (name, problem, layout) in problems::peers(args.precision, args.batch) {
        let key = Key::new(&problem, layout, arch).hex();
        worker.begin(&key, Surroundings::default())?;
        let (mut generated, mut chosen, mut least): (Vec<Timed>, Option<Timed>, f64) = (vec![], None, f64::INFINITY);
        for space in spaces(&problem, layout, arch).into_iter().map(|s| FamilySpace::new(s, &problem)) {
            let found = search(&mut worker, &space, args.measure)?;
            if let Some((estimate, timed)) = found.first().filter(|f| f.0 < least) {
                (least, chosen) = (*estimate, timed.clone());
            }
            generated.extend(found.into_iter().filter_map(|f| f.1));
        }
        let calls = calls(&mut worker, (&problem, layout, arch))?;
        let fastest = |of: &[Timed]| of.iter().min_by(|a, b| a.ns.total_cmp(&b.ns)).cloned();
        let around = Surroundings::default();
        let [chosen, ours] = [chosen, fastest(&generated)].map(|found| again(&mut worker, &key, around, found));
        let (chosen, ours) = (chosen?, ours?);
        let all: Vec<Timed> = ours.iter().chain(&fastest(&calls)).cloned().collect();
        let early = again(&mut worker, &key, Surroundings { early: true, ..around }, ours.clone())?;
        let rows = [
            ("wpk-heuristic", chosen),
            ("wpk-generated", ours),
            ("wpk-generated+programmatic", early),
            ("wpk-library", fastest(&calls)),
            ("wpk", fastest(&all)),
        ];
        for (peer, found) in rows {
            let Some(found) = found else { continue };
            let note = format!("{} {:?}", found.family, found.schedule);
            println!("{}", json!({"suite": "conv", "name": name, "peer": peer, "ms": found.ns / 1e6, "note": note}));
        }
    }
    worker.notes.iter().for_each(|note| eprintln!("a library was not used: {note}"));
    Ok(())
}

/// Replays whose median counts, as many as of a peer.
const ROUNDS: usize = 20;

/// What was found, timed once more: the least of many times is one that chance made short.
fn again(worker: &mut Worker, key: &str, around: Surroundings, found: Option<Timed>) -> Result<Option<Timed>, String> {
    let Some(found) = found else { return Ok(None) };
    worker.begin(key, around)?;
    let ns = worker.time(std::slice::from_ref(&found), ROUNDS)?.pop().and_then(Result::ok);
    Ok(ns.map(|ns| Timed { ns, ..found }))
}

/// Schedules by the genetic algorithm, with their estimates and what they took; the first is the estimate's choice.
fn search(worker: &mut Worker, space: &FamilySpace<'_>, most: usize) -> Result<Vec<(f64, Option<Timed>)>, String> {
    let (mut searcher, mut history) = (search::ga::Genetic::new(1), History::default());
    let mut found = vec![];
    while history.trials.len() < most {
        let count = BATCH.min(most - history.trials.len());
        let proposals: Vec<Values> =
            if history.trials.is_empty() { first(space, &[], count) } else { searcher.propose(space, &history, count) };
        if proposals.is_empty() {
            break;
        }
        let named: Vec<Timed> = proposals.iter().map(|v| Timed::schedule(space.family.family, space.params(), v, 0.0)).collect();
        let outcomes = worker.time(&named, 5)?;
        for ((values, timed), outcome) in proposals.into_iter().zip(named).zip(outcomes) {
            let ns = outcome.ok();
            found.push((space.estimate(&values).unwrap_or(f64::INFINITY), ns.map(|ns| Timed { ns, ..timed })));
            history.tell(values, ns);
        }
    }
    Ok(found)
}

/// What libraries propose and took. In strict `f32` they read weights that lie as in the other precisions.
fn calls(worker: &mut Worker, (problem, layout, arch): (&Problem, WeightLayout, &Arch)) -> Result<Vec<Timed>, String> {
    if layout == WeightLayout::Panels16
        && worker.begin(&Key::new(problem, WeightLayout::Columns, arch).hex(), Surroundings::default()).is_err()
    {
        return Ok(vec![]);
    }
    let proposed = worker.calls()?;
    let outcomes = worker.time(&proposed, 5)?;
    Ok(proposed.into_iter().zip(outcomes).filter_map(|(timed, ns)| Some(Timed { ns: ns.ok()?, ..timed })).collect())
}
