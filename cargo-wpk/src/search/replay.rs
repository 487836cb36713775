//! Recorded landscapes: searches without a GPU, on the schedules of a problem that were measured.

use super::{FEATURES, History, Searcher, Space, Values, first};
use std::collections::BTreeMap;
use wpk_kernels::schedule::Param;

/// The recorded schedules of one problem.
pub struct Replay {
    params: Vec<Param>,
    times: BTreeMap<Values, f64>,
    estimates: BTreeMap<Values, f64>,
    features: [f64; FEATURES],
}

impl Replay {
    /// Recorded times, with the estimate of each schedule; what is not legal any more is left out.
    pub fn new(times: &[(Values, f64)], space: &dyn Space) -> Self {
        let estimates: BTreeMap<Values, f64> = times.iter().filter_map(|(v, _)| Some((v.clone(), space.estimate(v)?))).collect();
        let times = times.iter().filter(|t| estimates.contains_key(&t.0)).cloned().collect();
        Self { params: space.params().to_vec(), times, estimates, features: space.features() }
    }

    /// The fastest time.
    pub fn best(&self) -> f64 {
        self.times.values().copied().fold(f64::INFINITY, f64::min)
    }

    /// How many schedules there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// The time of a schedule; `None` where it was not recorded.
    pub fn time(&self, values: &Values) -> Option<f64> {
        self.times.get(values).copied()
    }

    /// The recorded schedule that was fastest.
    pub fn fastest(&self) -> Option<&Values> {
        self.times.iter().min_by(|a, b| a.1.total_cmp(b.1)).map(|t| t.0)
    }

    /// What a search measures until it has enough; the first is the estimate's choice.
    fn run(&self, searcher: &mut dyn Searcher, enough: impl Fn(&History) -> bool) -> History {
        let mut history = History::default();
        while !enough(&history) {
            let proposals = if history.trials.is_empty() { first(self, &[], 1) } else { searcher.propose(self, &history, 1) };
            if proposals.is_empty() {
                break;
            }
            let new = proposals.len();
            for values in proposals {
                let ns = self.time(&values);
                history.tell(values, ns);
            }
            searcher.learn(self, &history, new);
        }
        history
    }

    /// The fastest time that a search has found after each of some measurements, over the fastest there is.
    pub fn curve(&self, searcher: &mut dyn Searcher, measurements: usize) -> Vec<f64> {
        let history = self.run(searcher, |h| h.trials.len() >= measurements);
        let mut best = f64::INFINITY;
        let mut curve: Vec<f64> = history
            .trials
            .iter()
            .map(|t| {
                best = best.min(t.1.unwrap_or(f64::INFINITY));
                best / self.best()
            })
            .collect();
        // Where everything was measured nothing more is found.
        curve.resize(measurements, best / self.best());
        curve
    }

    /// The fastest time that a search finds within some measurements, over the fastest there is.
    pub fn found(&self, searcher: &mut dyn Searcher, measurements: usize) -> f64 {
        self.curve(searcher, measurements).last().copied().unwrap_or(f64::INFINITY)
    }

    /// Measurements that a search makes until it is within `share` of the fastest time; all there are where it never is.
    pub fn measurements(&self, searcher: &mut dyn Searcher, share: f64) -> usize {
        let goal = self.best() * (1.0 + share);
        let reached = |h: &History| h.trials.last().is_some_and(|t| t.1.is_some_and(|ns| ns <= goal));
        let history = self.run(searcher, reached);
        if reached(&history) { history.trials.len() } else { self.len() }
    }
}

impl Space for Replay {
    fn params(&self) -> &[Param] {
        &self.params
    }

    fn estimate(&self, values: &[u32]) -> Option<f64> {
        self.estimates.get(values).copied()
    }

    fn all(&self) -> Vec<(Values, f64)> {
        self.estimates.iter().map(|(v, e)| (v.clone(), *e)).collect()
    }

    fn features(&self) -> [f64; FEATURES] {
        self.features
    }
}
