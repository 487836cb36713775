//! A genetic algorithm: schedules are individuals, parameters genes. Parents are chosen by tournament among the fastest, children take
//! each gene from either, and mutate to neighbouring values or any. What is not legal or known is born again; of several broods
//! those that the estimate prefers are measured, and others for the sake of variety.

use super::{History, Rng, Searcher, Space, Values, index};

/// Individuals that may be parents.
const POPULATION: usize = 12;
/// Children born for each that is measured.
const BROOD: usize = 6;
/// Births that are tried for a child.
const TRIES: usize = 40;

/// The genetic algorithm.
pub struct Genetic {
    rng: Rng,
}

impl Genetic {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed) }
    }

    /// The better of two of the fastest.
    fn parent<'a>(&mut self, fastest: &[(&'a Values, f64)]) -> &'a Values {
        let (a, b) = (self.rng.below(fastest.len()), self.rng.below(fastest.len()));
        fastest[a.min(b)].0
    }

    fn child(&mut self, space: &dyn Space, fastest: &[(&Values, f64)]) -> Values {
        let (mother, father) = (self.parent(fastest), self.parent(fastest));
        let mut child: Values = mother.iter().zip(father).map(|(&m, &f)| if self.rng.below(2) == 0 { m } else { f }).collect();
        let params = space.params();
        // One gene mutates at least: children of equal parents would be known.
        let forced = self.rng.below(params.len());
        for (i, p) in params.iter().enumerate() {
            if i != forced && self.rng.unit() > 0.2 {
                continue;
            }
            let at = index(p, child[i]);
            let to = match self.rng.below(4) {
                0 => self.rng.below(p.values.len()),
                1 | 2 if at + 1 < p.values.len() && self.rng.below(2) == 0 => at + 1,
                _ => at.saturating_sub(1),
            };
            child[i] = p.values[to];
        }
        child
    }
}

impl Searcher for Genetic {
    fn name(&self) -> &'static str {
        "ga"
    }

    fn propose(&mut self, space: &dyn Space, history: &History, count: usize) -> Vec<Values> {
        let fastest = history.best(POPULATION);
        if fastest.is_empty() {
            return super::first(space, &[], count).into_iter().filter(|v| !history.knows(v)).collect();
        }
        let mut born: Vec<(Values, f64)> = vec![];
        for _ in 0..count * BROOD {
            let legal = (0..TRIES).find_map(|_| {
                let child = self.child(space, &fastest);
                let fresh = !history.knows(&child) && !born.iter().any(|b| b.0 == child);
                let estimate = space.estimate(&child).filter(|_| fresh)?;
                Some((child, estimate))
            });
            born.extend(legal);
        }
        born.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        let mut chosen: Vec<Values> = vec![];
        while chosen.len() < count && !born.is_empty() {
            // Every fourth is taken whatever its estimate.
            let at = if chosen.len() % 4 == 3 { self.rng.below(born.len()) } else { 0 };
            chosen.push(born.remove(at).0);
        }
        // Where the neighbourhood is exhausted, the estimate's best that are left.
        if chosen.len() < count {
            let mut rest: Vec<(Values, f64)> = space.all().into_iter().filter(|r| !history.knows(&r.0) && !chosen.contains(&r.0)).collect();
            rest.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
            chosen.extend(rest.into_iter().take(count - chosen.len()).map(|r| r.0));
        }
        chosen
    }
}
