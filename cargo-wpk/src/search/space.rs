//! The kernels' families as spaces for searches.

use super::{FEATURES, Space, Values};
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
        let bytes: usize = problem.inputs().iter().chain(&problem.outputs()).map(|o| o.view.len() * o.dtype.bytes()).sum();
        let results: usize = problem.outputs().iter().map(|o| o.view.len()).sum();
        let (operations, results) = (problem.operations().max(1) as f64, results.max(1) as f64);
        let size = problem.inputs().first().map_or(4, |o| o.dtype.bytes());
        let features = [
            operations.log2() / 30.0,
            results.log2() / 20.0,
            (operations / results).log2() / 15.0,
            (operations / bytes.max(1) as f64).log2() / 10.0,
            size as f64 / 4.0,
        ];
        Self { family, features }
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
