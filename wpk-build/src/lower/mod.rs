//! From the graph to the plan.

mod problem;

pub use problem::problem;
