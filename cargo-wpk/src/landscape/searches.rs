//! The searches on recorded landscapes, without a GPU.

use crate::search::replay::Replay;
use crate::search::rl::{Policy, Without};
use crate::search::{self, Searcher, Space};
use std::collections::BTreeMap;

/// The measurements that each search needs on the recorded problems, all from the same first schedules, over random's.
pub fn compare(replays: &[Replay], seeds: u64) {
    const SHARE: f64 = 0.03;
    if seeds == 0 || replays.is_empty() {
        return;
    }
    println!(
        "measurements until within {SHARE} of the best, from the estimate's choice on, geometric means over {} problems and {seeds} seeds:",
        replays.len()
    );
    let mut logs: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for seed in 0..seeds {
        for (at, replay) in replays.iter().enumerate() {
            let mut run = |name: &'static str, searcher: &mut dyn Searcher| {
                logs.entry(name).or_default().push((replay.measurements(searcher, SHARE) as f64).ln());
            };
            for name in ["random", "ga", "rl"] {
                if let Some(mut searcher) = search::by_name(name, seed) {
                    run(name, searcher.as_mut());
                }
            }
            run("rl, trained on the others", &mut trained(replays, at, seed));
        }
    }
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let random = mean(&logs["random"]);
    for (name, x) in &logs {
        let (m, n) = (mean(x), x.len() as f64);
        let deviation = (x.iter().map(|v| (v - m) * (v - m)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
        let half = 1.96 * deviation / n.sqrt();
        println!("  {name:28} {:6.2} [{:.2}, {:.2}], {:.2} of random's", m.exp(), (m - half).exp(), (m + half).exp(), (m - random).exp());
    }
}

/// Measurements that curves show.
const SHOWN: usize = 64;

/// What searches have found after each measurement, as a picture: geometric means over problems and seeds.
pub fn curves(replays: &[Replay], seeds: u64, title: &str) -> String {
    let mut lines: Vec<(&str, Vec<f64>)> = vec![];
    let mut line = |name: &'static str, search: &dyn Fn(usize, u64) -> Option<Box<dyn Searcher>>| {
        let mut logs = vec![0.0; SHOWN];
        let mut count = 0.0;
        for (at, replay) in replays.iter().enumerate() {
            for mut searcher in (0..seeds).filter_map(|seed| search(at, seed)) {
                count += 1.0;
                logs.iter_mut().zip(replay.curve(searcher.as_mut(), SHOWN)).for_each(|(sum, x)| *sum += x.ln());
            }
        }
        lines.push((name, logs.iter().map(|l| (l / count).exp()).collect()));
    };
    for name in ["random", "ga", "rl"] {
        line(name, &|_, seed| search::by_name(name, seed));
    }
    line("rl, trained on the others", &|at, seed| Some(Box::new(trained(replays, at, seed))));
    super::plot::svg(title, "measurements", "time over the fastest", &lines)
}

/// A policy that searched every other problem.
fn trained(replays: &[Replay], without: usize, seed: u64) -> Policy {
    let others: Vec<&Replay> = replays.iter().enumerate().filter(|r| r.0 != without).map(|r| r.1).collect();
    training(&others, seed, Without::default())
}

/// Measurements of a search that trains a policy.
const TRAINING: usize = 48;

/// A policy that searched some problems, two times each.
fn training(replays: &[&Replay], seed: u64, without: Without) -> Policy {
    let mut policy = Policy::new(seed + 1000);
    policy.without = without;
    for replay in replays.iter().chain(replays) {
        replay.found(&mut policy, TRAINING);
    }
    let mut fresh = Policy::trained(seed, &policy.weights().unwrap_or_default());
    fresh.without = without;
    fresh
}

/// Measurements after which policies are compared.
const FEW: usize = 16;

/// What policies find on ResNet-18's problems within [`FEW`] measurements, trained on ResNet-50's or not, and what a policy is worth without
/// its parts; beside them the schedule of the nearest of ResNet-50's problems alone. Times are over the fastest there is.
pub fn policies(replays: &[Replay], seeds: u64) {
    let Some((tested, others)) = replays.split_at_checked(super::problems::RESNET18).filter(|s| !s.1.is_empty() && seeds > 0) else {
        return;
    };
    let others: Vec<&Replay> = others.iter().collect();
    println!("over the fastest after {FEW} measurements, geometric means over {} problems and {seeds} seeds:", tested.len());
    let mut known: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let report = |name: &str, logs: &[f64]| {
        let n = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / n;
        let deviation = (logs.iter().map(|l| (l - mean) * (l - mean)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
        let half = 1.96 * deviation / n.sqrt();
        println!("  {name:28} {:.3} [{:.3}, {:.3}]", mean.exp(), (mean - half).exp(), (mean + half).exp());
    };
    let nearest: Vec<f64> = tested.iter().filter_map(|t| Some((nearest(t, &others)? / t.best()).ln())).collect();
    report("the nearest record alone", &nearest);
    let (problem, baseline) = (Without { problem: true, ..Without::default() }, Without { baseline: true, ..Without::default() });
    let kinds = [("trained", Without::default()), ("trained, no problem features", problem), ("trained, no value baseline", baseline)];
    for (name, without) in kinds {
        let policies: Vec<Vec<Vec<f64>>> = (0..seeds).map(|seed| training(&others, seed, without).weights().unwrap_or_default()).collect();
        let run = |t: &Replay, seed: u64| {
            let mut policy = Policy::trained(seed, &policies[seed as usize]);
            policy.without = without;
            t.found(&mut policy, FEW).ln()
        };
        let logs: Vec<f64> = tested.iter().flat_map(|t| (0..seeds).map(move |s| (t, s))).map(|(t, s)| run(t, s)).collect();
        report(name, &logs);
        known.insert(name, logs);
    }
    for name in ["rl", "ga", "random"] {
        let run = |t: &Replay, seed: u64| search::by_name(name, seed).map(|mut s| t.found(s.as_mut(), FEW).ln());
        let logs: Vec<f64> = tested.iter().flat_map(|t| (0..seeds).map(move |s| (t, s))).filter_map(|(t, s)| run(t, s)).collect();
        report(if name == "rl" { "rl, not trained" } else { name }, &logs);
        known.insert(name, logs);
    }
    // On the same problems, from the same seeds.
    let pairs: Vec<f64> = known["trained"].iter().zip(&known["rl"]).map(|(t, r)| t - r).collect();
    report("trained over not trained", &pairs);
}

/// The time of the fastest schedule of the problem most like one, of those whose fastest schedule was recorded for it.
fn nearest(of: &Replay, others: &[&Replay]) -> Option<f64> {
    let distance = |o: &&&Replay| o.features().iter().zip(of.features()).map(|(a, b)| (a - b).abs()).sum::<f64>();
    let mut near: Vec<&&Replay> = others.iter().collect();
    near.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    near.into_iter().find_map(|o| of.time(o.fastest()?))
}
