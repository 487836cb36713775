//! Schedules: how a problem is computed, as named discrete parameters.

use crate::arch::Arch;

/// One parameter with the values it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Its name in records.
    pub name: &'static str,
    /// Its values, ascending.
    pub values: &'static [u32],
}

/// Parameters of a family at most.
const MOST: usize = 16;

/// A point in a family's space.
pub trait Schedule: Copy + std::fmt::Debug + std::fmt::Display + 'static {
    /// What it schedules.
    type Problem;
    /// What legality and cost depend on.
    type Facts;
    /// The family's name in records.
    const FAMILY: &'static str;
    /// The parameters.
    const PARAMS: &'static [Param];

    /// The schedule of these values, in the order of [`Schedule::PARAMS`].
    fn from_values(values: &[u32]) -> Self;

    /// Its values.
    fn values(&self) -> Vec<u32>;

    /// What is to know of a problem and an architecture.
    fn facts(problem: &Self::Problem, arch: &Arch) -> Self::Facts;

    /// Whether it can be generated.
    fn legal(&self, facts: &Self::Facts) -> bool;

    /// Estimated nanoseconds on a GPU of this architecture.
    fn cost(&self, facts: &Self::Facts) -> f64;

    /// Every schedule, the last parameter fastest.
    fn space() -> impl Iterator<Item = Self> {
        let size: usize = Self::PARAMS.iter().map(|p| p.values.len()).product();
        (0..size).map(|mut i| {
            let mut values = [0; MOST];
            for (p, param) in Self::PARAMS.iter().enumerate().rev() {
                values[p] = param.values[i % param.values.len()];
                i /= param.values.len();
            }
            Self::from_values(&values[..Self::PARAMS.len()])
        })
    }

    /// The legal schedule of least estimated cost, the first of equal ones.
    fn heuristic(problem: &Self::Problem, arch: &Arch) -> Option<Self> {
        Self::cheapest(&Self::facts(problem, arch))
    }

    /// The same for known facts.
    fn cheapest(facts: &Self::Facts) -> Option<Self> {
        let legal = Self::space().filter(|s| s.legal(facts));
        legal.map(|s| (s, s.cost(facts))).reduce(|best, s| if s.1 < best.1 { s } else { best }).map(|s| s.0)
    }
}

/// Declares a schedule: its parameters once, with their values.
macro_rules! schedule {
    ($(#[$doc:meta])* $Name:ident($Problem:ty => $Facts:ty) = $family:literal { $($(#[$field_doc:meta])* $field:ident: $values:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $Name {
            $($(#[$field_doc])* pub $field: u32,)*
        }
        impl $Name {
            pub(crate) const FAMILY: &'static str = $family;
            const PARAMS: &'static [crate::schedule::Param] =
                &[$(crate::schedule::Param { name: stringify!($field), values: &$values }),*];
            fn of(values: &[u32]) -> Self {
                let mut values = values.iter().copied();
                Self { $($field: values.next().unwrap_or(0),)* }
            }
            fn list(&self) -> Vec<u32> {
                vec![$(self.$field),*]
            }
        }
        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, $family)?;
                $(write!(f, " {}={}", stringify!($field), self.$field)?;)*
                Ok(())
            }
        }
        impl crate::schedule::Schedule for $Name {
            type Problem = $Problem;
            type Facts = $Facts;
            const FAMILY: &'static str = Self::FAMILY;
            const PARAMS: &'static [crate::schedule::Param] = Self::PARAMS;
            fn from_values(values: &[u32]) -> Self {
                Self::of(values)
            }
            fn values(&self) -> Vec<u32> {
                self.list()
            }
            fn facts(problem: &$Problem, arch: &crate::arch::Arch) -> $Facts {
                <$Facts>::of(problem, arch)
            }
            fn legal(&self, facts: &$Facts) -> bool {
                self.fits(facts)
            }
            fn cost(&self, facts: &$Facts) -> f64 {
                self.estimate(facts)
            }
        }
    };
}
pub(crate) use schedule;
