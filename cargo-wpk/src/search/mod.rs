//! Searches for the fastest schedule of a problem. A searcher proposes schedules, somebody measures them, the history tells.
//! Searchers are pure and seeded: the same history and seed give the same proposals, whether a GPU measures or a record is replayed.

pub mod ga;
pub mod net;
pub mod random;
pub mod replay;
pub mod rl;
pub mod space;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;
use wpk_kernels::schedule::Param;
use wpk_plan::problem::Problem;

/// The values of a schedule's parameters, in their order.
pub type Values = Vec<u32>;

/// The schedules of a problem.
pub trait Space {
    /// The parameters.
    fn params(&self) -> &[Param];
    /// Estimated nanoseconds; `None` where a schedule is not legal.
    fn estimate(&self, values: &[u32]) -> Option<f64>;
    /// Every legal schedule with its estimate.
    fn all(&self) -> Vec<(Values, f64)>;
    /// What is to know of the problem: numbers of about one.
    fn features(&self) -> [f64; FEATURES];
}

/// Numbers that describe a problem: logarithms of operations, results and depth, arithmetic intensity, bytes of an element.
pub const FEATURES: usize = 5;

/// The features of a problem.
pub fn features(problem: &Problem) -> [f64; FEATURES] {
    let bytes: usize = problem.inputs().iter().chain(&problem.outputs()).map(|o| o.view.len() * o.dtype.bytes()).sum();
    let results: usize = problem.outputs().iter().map(|o| o.view.len()).sum();
    let (operations, results) = (problem.operations().max(1) as f64, results.max(1) as f64);
    let size = problem.inputs().first().map_or(4, |o| o.dtype.bytes());
    [
        operations.log2() / 30.0,
        results.log2() / 20.0,
        (operations / results).log2() / 15.0,
        (operations / bytes.max(1) as f64).log2() / 10.0,
        size as f64 / 4.0,
    ]
}

/// What was measured so far.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Schedules with their nanoseconds, in the order of measuring; none where a kernel failed.
    pub trials: Vec<(Values, Option<f64>)>,
    tried: BTreeSet<Values>,
}

impl History {
    /// Adds a measurement.
    pub fn tell(&mut self, values: Values, ns: Option<f64>) {
        self.tried.insert(values.clone());
        self.trials.push((values, ns));
    }

    /// Whether a schedule was measured.
    pub fn knows(&self, values: &[u32]) -> bool {
        self.tried.contains(values)
    }

    /// The fastest schedules, best first, at most `n`.
    pub fn best(&self, n: usize) -> Vec<(&Values, f64)> {
        let mut timed: Vec<(&Values, f64)> = self.trials.iter().filter_map(|(v, ns)| Some((v, (*ns)?))).collect();
        timed.sort_by(|a, b| a.1.total_cmp(&b.1));
        timed.truncate(n);
        timed
    }
}

/// A way to choose what is measured next.
pub trait Searcher {
    /// Its name in records.
    fn name(&self) -> &'static str;
    /// Schedules to measure, at most `count`, none of them measured before; none at all where it has nothing to propose.
    fn propose(&mut self, space: &dyn Space, history: &History, count: usize) -> Vec<Values>;
    /// Learns from measurements of what it proposed, which the history holds at its end.
    fn learn(&mut self, _space: &dyn Space, _history: &History, _new: usize) {}
    /// What it learned, to begin the next search with.
    fn weights(&self) -> Option<Vec<Vec<f64>>> {
        None
    }
}

/// The searcher of a name; `auto` is the genetic algorithm, which needs no training.
pub fn by_name(name: &str, seed: u64) -> Option<Box<dyn Searcher>> {
    match name {
        "ga" | "auto" => Some(Box::new(ga::Genetic::new(seed))),
        "rl" => Some(Box::new(rl::Policy::new(seed))),
        "random" => Some(Box::new(random::Random::new(seed))),
        _ => None,
    }
}

/// The searcher of a name, with what an earlier one learned and kept in a file.
pub fn trained(name: &str, seed: u64, file: &Path) -> Option<Box<dyn Searcher>> {
    if name != "rl" {
        return by_name(name, seed);
    }
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let weights: Vec<Vec<f64>> = text.lines().map(|l| l.split(' ').filter_map(|w| w.parse().ok()).collect()).collect();
    Some(Box::new(rl::Policy::trained(seed, &weights)))
}

/// Keeps what a searcher learned.
///
/// # Errors
/// Where the file cannot be written.
pub fn keep(searcher: &dyn Searcher, file: &Path) -> std::io::Result<()> {
    let Some(weights) = searcher.weights() else { return Ok(()) };
    let line = |w: &Vec<f64>| w.iter().map(|x| format!("{x:.6}")).collect::<Vec<_>>().join(" ");
    let text: Vec<String> = weights.iter().map(line).collect();
    wpk_build::records::write_whole(file, (text.join("\n") + "\n").as_bytes())
}

/// The first schedules that every search measures: those that similar problems found best, then the estimate's.
pub fn first(space: &dyn Space, similar: &[Values], count: usize) -> Vec<Values> {
    let mut all = space.all();
    all.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    let mut chosen: Vec<Values> = similar.iter().filter(|v| space.estimate(v).is_some()).cloned().collect();
    for (values, _) in all {
        if chosen.len() >= count {
            break;
        }
        if !chosen.contains(&values) {
            chosen.push(values);
        }
    }
    chosen.truncate(count);
    chosen
}

/// Schedules that are measured at once.
const BATCH: usize = 16;
/// Batches without a gain after which a problem is left.
const PATIENCE: usize = 2;

/// Nanoseconds of schedules, none of those that failed.
pub type Measure<'a> = dyn FnMut(&[Values]) -> Result<Vec<Option<f64>>, String> + 'a;

/// Searches until batches bring no gain or time is up; one batch is measured whatever time it is. Begins with what similar problems found best.
///
/// # Errors
/// Where nothing can be measured any more.
pub fn explore(
    (space, similar): (&dyn Space, &[Values]),
    searcher: &mut dyn Searcher,
    history: &mut History,
    end: Instant,
    measure: &mut Measure<'_>,
) -> Result<(), String> {
    let (mut best, mut idle) = (f64::INFINITY, 0);
    while idle < PATIENCE && (history.trials.is_empty() || Instant::now() < end) {
        let proposals = if history.trials.is_empty() { first(space, similar, BATCH) } else { searcher.propose(space, history, BATCH) };
        if proposals.is_empty() {
            break;
        }
        let (new, times) = (proposals.len(), measure(&proposals)?);
        proposals.into_iter().zip(times).for_each(|(values, ns)| history.tell(values, ns));
        searcher.learn(space, history, new);
        let now = history.best(1).first().map_or(f64::INFINITY, |b| b.1);
        idle = if now < 0.995 * best { 0 } else { idle + 1 };
        best = best.min(now);
    }
    Ok(())
}

/// Pseudo-random numbers (PCG's multiplier and increment).
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5555_5555)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n.max(1)
    }

    /// A number from 0 to 1.
    pub fn unit(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 31) as f64
    }
}

/// The place of a parameter's value among its values.
pub fn index(param: &Param, value: u32) -> usize {
    param.values.iter().position(|&v| v == value).unwrap_or(0)
}
