//! Reinforcement learning: a policy over edits of schedules, trained by policy gradient (REINFORCE with a learned baseline; Williams
//! 1992). An action sets one or two parameters of one of the fastest schedules; its reward is the logarithm of the speed-up over that
//! schedule. The policy is a softmax over a network's scores of the legal actions, so that it serves any family, and it knows the
//! problem: what it learned on one speeds up the next.

use super::net::Net;
use super::{FEATURES, History, Rng, Searcher, Space, Values, index};

/// Parameters of a family that actions tell apart.
const PARAMS: usize = 8;
/// Numbers that describe an action: by parameter its value and how far it moves, the estimate against that of the edited schedule and
/// of the best, how many parameters change, the edited schedule's rank, and the problem.
const ACTION: usize = 2 * PARAMS + 4 + FEATURES;
/// Schedules that are edited.
const EDITED: usize = 3;
/// Actions that are scored at most.
const SCORED: usize = 160;
const RATE: f64 = 0.003;
/// Where an action's description holds the logarithm of its estimate over the best schedule's.
const ESTIMATE: usize = 2 * PARAMS + 1;
/// How much an untrained policy follows the estimate.
const PRIOR: f64 = 6.0;

/// An action: the schedule it leads to, its description, and what it edits.
struct Action {
    to: Values,
    features: Vec<f64>,
    from: f64,
}

/// A proposal that waits for its reward.
struct Step {
    to: Values,
    /// The descriptions of all actions there were, and which one was taken.
    choices: Vec<Vec<f64>>,
    taken: usize,
    from: f64,
}

/// The policy with its baseline.
pub struct Policy {
    rng: Rng,
    policy: Net,
    baseline: Net,
    waiting: Vec<Step>,
    /// What it goes without.
    pub without: Without,
}

/// What a policy may go without, to see what that is worth.
#[derive(Debug, Clone, Copy, Default)]
pub struct Without {
    /// What is known of the problem.
    pub problem: bool,
    /// The baseline of its rewards.
    pub baseline: bool,
}

impl Policy {
    /// Untrained.
    pub fn new(seed: u64) -> Self {
        let (policy, baseline) = (Net::new(ACTION, seed ^ 1), Net::new(ACTION, seed ^ 2));
        Self { rng: Rng::new(seed), policy, baseline, waiting: vec![], without: Without::default() }
    }

    /// With weights that an earlier search kept; untrained where they do not fit.
    pub fn trained(seed: u64, weights: &[Vec<f64>]) -> Self {
        let mut policy = Self::new(seed);
        if let [p, b] = weights
            && let (Some(p), Some(b)) = (Net::with_weights(ACTION, p.clone()), Net::with_weights(ACTION, b.clone()))
        {
            (policy.policy, policy.baseline) = (p, b);
        }
        policy
    }

    /// Legal edits of the fastest schedules to ones that were not measured.
    fn actions(&mut self, space: &dyn Space, history: &History, taken: &[Values]) -> Vec<Action> {
        let fastest = history.best(EDITED);
        let Some(&(best, _)) = fastest.first() else { return vec![] };
        let best = space.estimate(best).unwrap_or(1.0);
        let known = |v: &Values| history.knows(v) || taken.contains(v);
        let mut actions: Vec<Action> = vec![];
        for (rank, (from, ns)) in fastest.iter().enumerate() {
            let own = space.estimate(from).unwrap_or(best);
            for to in edits(space, from) {
                let Some(estimate) = space.estimate(&to).filter(|_| !known(&to)) else { continue };
                if actions.iter().any(|a| a.to == to) {
                    continue;
                }
                let mut features = describe(space, from, &to, [(estimate / own).ln(), (estimate / best).ln(), rank as f64 / EDITED as f64]);
                if self.without.problem {
                    features[ACTION - FEATURES..].fill(0.0);
                }
                actions.push(Action { to, features, from: *ns });
            }
        }
        while actions.len() > SCORED {
            let at = self.rng.below(actions.len());
            actions.swap_remove(at);
        }
        actions
    }

    /// The probability of each action.
    fn probabilities(&self, choices: &[Vec<f64>]) -> Vec<f64> {
        let scores: Vec<f64> = choices.iter().map(|c| self.policy.value(c) - PRIOR * c[ESTIMATE]).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.iter().map(|p| p / sum).collect()
    }
}

/// Every schedule that differs in one parameter, or in two by neighbouring values.
fn edits(space: &dyn Space, from: &Values) -> Vec<Values> {
    let params = space.params();
    let mut all = vec![];
    for (i, p) in params.iter().enumerate() {
        let set = |values: &Values, i: usize, v: u32| {
            let mut values = values.clone();
            values[i] = v;
            values
        };
        all.extend(p.values.iter().filter(|&&v| v != from[i]).map(|&v| set(from, i, v)));
        for (j, q) in params.iter().enumerate().skip(i + 1) {
            let near = |p: &wpk_kernels::schedule::Param, v: u32| {
                let at = index(p, v);
                [at.checked_sub(1), Some(at + 1)].into_iter().flatten().filter_map(|a| p.values.get(a).copied()).collect::<Vec<u32>>()
            };
            for v in near(p, from[i]) {
                all.extend(near(q, from[j]).into_iter().map(|w| set(&set(from, i, v), j, w)));
            }
        }
    }
    all
}

fn describe(space: &dyn Space, from: &Values, to: &Values, own: [f64; 3]) -> Vec<f64> {
    let mut features = vec![0.0; 2 * PARAMS];
    for (i, p) in space.params().iter().enumerate().take(PARAMS) {
        let scale = (p.values.len() - 1).max(1) as f64;
        let (a, b) = (index(p, from[i]) as f64 / scale, index(p, to[i]) as f64 / scale);
        (features[i], features[PARAMS + i]) = (b, b - a);
    }
    let changed = from.iter().zip(to).filter(|(a, b)| a != b).count();
    features.extend(own.map(|x: f64| x.clamp(-2.0, 2.0)));
    features.push(changed as f64 - 1.0);
    features.extend(space.features());
    features
}

/// What all choices have in common: their mean.
fn mean(choices: &[Vec<f64>]) -> Vec<f64> {
    let sum = |i: usize| choices.iter().map(|c| c[i]).sum::<f64>();
    (0..ACTION).map(|i| sum(i) / choices.len() as f64).collect()
}

impl Searcher for Policy {
    fn name(&self) -> &'static str {
        "rl"
    }

    fn weights(&self) -> Option<Vec<Vec<f64>>> {
        Some(vec![self.policy.weights.clone(), self.baseline.weights.clone()])
    }

    fn propose(&mut self, space: &dyn Space, history: &History, count: usize) -> Vec<Values> {
        let mut chosen: Vec<Values> = vec![];
        while chosen.len() < count {
            let actions = self.actions(space, history, &chosen);
            if actions.is_empty() {
                // Nothing is left to edit: the estimate's best that was not measured.
                let rest = space.all().into_iter().filter(|r| !history.knows(&r.0) && !chosen.contains(&r.0));
                let Some(next) = rest.min_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0))) else { break };
                chosen.push(next.0);
                continue;
            }
            let choices: Vec<Vec<f64>> = actions.iter().map(|a| a.features.clone()).collect();
            let mut left = self.rng.unit();
            let taken = self.probabilities(&choices).iter().position(|p| {
                left -= p;
                left <= 0.0
            });
            let taken = taken.unwrap_or(choices.len() - 1);
            let (to, from) = (actions[taken].to.clone(), actions[taken].from);
            chosen.push(to.clone());
            self.waiting.push(Step { to, choices, taken, from });
        }
        chosen
    }

    fn learn(&mut self, _: &dyn Space, history: &History, new: usize) {
        let recent = &history.trials[history.trials.len().saturating_sub(new)..];
        for step in std::mem::take(&mut self.waiting) {
            let Some((_, ns)) = recent.iter().find(|t| t.0 == step.to) else { continue };
            // A kernel that failed is as good as one three times as slow.
            let reward = ns.map_or(-1.1, |ns| (step.from / ns).ln().clamp(-1.1, 1.1));
            // The baseline knows the choices there were, and not which one was taken.
            let state = mean(&step.choices);
            let expected = if self.without.baseline { 0.0 } else { self.baseline.value(&state) };
            let advantage = reward - expected;
            let mut gradient = self.policy.zeros();
            // The derivative of the logarithm of a softmax: the score taken, less the scores as likely as they were.
            for (i, (choice, p)) in step.choices.iter().zip(self.probabilities(&step.choices)).enumerate() {
                let own = if i == step.taken { 1.0 } else { 0.0 };
                self.policy.add_gradient(choice, advantage * (own - p), &mut gradient);
            }
            self.policy.ascend(&gradient, RATE);
            let mut gradient = self.baseline.zeros();
            self.baseline.add_gradient(&state, advantage, &mut gradient);
            self.baseline.ascend(&gradient, RATE);
        }
    }
}
