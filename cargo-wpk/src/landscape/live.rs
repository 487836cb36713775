//! The searches beside each other on a device: the same first schedules, the same measurements, whole spaces.

use super::{LandscapeArgs, problems};
use crate::Outcome;
use crate::measure::Surroundings;
use crate::search::space::FamilySpace;
use crate::search::{self, History, Searcher, Space, Values, first};
use crate::worker::{Limits, Worker};
use std::collections::BTreeMap;
use std::io::Write;
use wpk_build::records::{Key, Timed};
use wpk_kernels::arch::Arch;

/// The searches that are compared.
const SEARCHES: [&str; 3] = ["random", "ga", "rl"];
/// Schedules that a search proposes at once.
const BATCH: usize = 4;
/// Measurements after which is told what was found.
const TOLD: [usize; 4] = [8, 16, 32, 64];

/// What the searches found after so many measurements of each problem, over the fastest that any of them found; a line of times a
/// problem and search goes into the file.
pub fn compare(args: &LandscapeArgs, arch: &Arch, device: usize, most: usize) -> Outcome {
    let mut worker = Worker::new(vec!["--device".to_owned(), device.to_string()], Limits::default());
    let mut out = std::fs::File::create(&args.file)?;
    let mut sums: BTreeMap<(&str, usize), f64> = BTreeMap::new();
    let mut count = 0.0;
    for (name, problem, layout) in problems::landscapes(args.precision).into_iter().filter(|p| p.0.contains(&args.only)) {
        let Some(family) = args.space(&problem, layout, arch) else { continue };
        let space = FamilySpace::new(family, &problem);
        worker.begin(&Key::new(&problem, layout, arch).hex(), Surroundings::default())?;
        // What one search measured is known to the others.
        let mut known: BTreeMap<Values, Option<f64>> = BTreeMap::new();
        let mut curves = vec![];
        for search in SEARCHES {
            let mut searcher = search::by_name(search, 1).ok_or("a search that is none")?;
            let history = run(&mut worker, &space, searcher.as_mut(), most, &mut known)?;
            let mut best = f64::INFINITY;
            let mut so_far = |t: &(Values, Option<f64>)| {
                best = best.min(t.1.unwrap_or(f64::INFINITY));
                best
            };
            let curve: Vec<f64> = history.trials.iter().map(&mut so_far).collect();
            writeln!(out, "{}", serde_json::json!({"name": name, "search": search, "best_ns": curve}))?;
            curves.push(curve);
        }
        let least = known.values().flatten().copied().fold(f64::INFINITY, f64::min);
        count += 1.0;
        for (search, curve) in SEARCHES.into_iter().zip(&curves) {
            for n in TOLD.into_iter().filter(|&n| n <= most) {
                let found = curve.get(n - 1).or(curve.last()).copied().unwrap_or(f64::INFINITY);
                *sums.entry((search, n)).or_insert(0.0) += (found / least).ln();
            }
        }
        println!("{name}: best {:.2} us of {} measured", least / 1e3, known.len());
    }
    println!("over the fastest found, geometric means over {count} problems:");
    for ((search, n), sum) in &sums {
        println!("  {search:8} after {n:3} measurements {:.3}", (sum / count).exp());
    }
    Ok(())
}

fn run(
    worker: &mut Worker,
    space: &FamilySpace<'_>,
    searcher: &mut dyn Searcher,
    most: usize,
    known: &mut BTreeMap<Values, Option<f64>>,
) -> Result<History, String> {
    let mut history = History::default();
    while history.trials.len() < most {
        let wanted = BATCH.min(most - history.trials.len());
        let proposals = if history.trials.is_empty() { first(space, &[], 1) } else { searcher.propose(space, &history, wanted) };
        if proposals.is_empty() {
            break;
        }
        let unknown: Vec<&Values> = proposals.iter().filter(|v| !known.contains_key(*v)).collect();
        let named: Vec<Timed> = unknown.iter().map(|v| Timed::schedule(space.family.family, space.params(), v, 0.0)).collect();
        let outcomes = worker.time(&named, 5)?;
        let new: Vec<(Values, Option<f64>)> = unknown.into_iter().cloned().zip(outcomes.into_iter().map(Result::ok)).collect();
        known.extend(new);
        let count = proposals.len();
        for values in proposals {
            let ns = known.get(&values).copied().flatten();
            history.tell(values, ns);
        }
        searcher.learn(space, &history, count);
    }
    Ok(history)
}
