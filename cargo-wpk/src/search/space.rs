//! The kernels' families as spaces for searches.

use super::{FEATURES, Space, Values, features};
use wpk_kernels::family;
use wpk_kernels::schedule::Param;
use wpk_plan::problem::Problem;

/// A family's schedules of a problem.
pub struct FamilySpace<'a> {
    /// The family.
    pub family: family::Space<'a>,
    features: [f64; FEATURES],
}

impl<'a> FamilySpace<'a> {
    /// For a problem that the family computes.
    pub fn new(family: family::Space<'a>, problem: &Problem) -> Self {
        Self { family, features: features(problem) }
    }
}

impl Space for FamilySpace<'_> {
    fn params(&self) -> &[Param] {
        self.family.params
    }

    fn estimate(&self, values: &[u32]) -> Option<f64> {
        self.family.estimate(values)
    }

    fn all(&self) -> Vec<(Values, f64)> {
        self.family.all().into_iter().map(|c| (c.values, c.cost)).collect()
    }

    fn features(&self) -> [f64; FEATURES] {
        self.features
    }
}
