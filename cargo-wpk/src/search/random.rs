//! Schedules at random, each legal one as likely as any other: the baseline of the other searches.

use super::{History, Rng, Searcher, Space, Values};

/// Random search.
pub struct Random {
    rng: Rng,
}

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed) }
    }
}

impl Searcher for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn propose(&mut self, space: &dyn Space, history: &History, count: usize) -> Vec<Values> {
        let mut left: Vec<Values> = space.all().into_iter().map(|a| a.0).filter(|v| !history.knows(v)).collect();
        (0..count.min(left.len())).map(|_| left.swap_remove(self.rng.below(left.len()))).collect()
    }
}
