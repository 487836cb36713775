//! How contractions run on CPUs: schedules that a search found, by kind of processor and number of threads. Without one the runtime
//! estimates. The runtime takes what fits its kernels: a schedule never changes what is computed but for rounding.

use crate::codec::{codec_enum, codec_struct};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// The depth and rows of a plain product's tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocking {
    /// Depth of a block; a reduction is cut where it is twice as deep.
    pub cut: u32,
    /// Rows of a task.
    pub chunk: u32,
    /// Panels of sixteen columns that a task takes at most.
    pub panels: u32,
}
codec_struct!(Blocking { cut, chunk, panels });

/// The tiles of minimal filtering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filtering {
    /// Results of a tile in each dimension: 2, 4 or 6.
    pub tile: u32,
    /// KiB of transformed images that a task keeps.
    pub kept: u32,
}
codec_struct!(Filtering { tile, kept });

/// How a contraction runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuSchedule {
    /// As a product of packed panels.
    Product(Blocking),
    /// A convolution of 3 by 3 by minimal filtering.
    Winograd(Filtering),
}
codec_enum!(CpuSchedule { 0 => Product(blocking), 1 => Winograd(filtering) });

/// A parameter's name and its values, ascending.
pub type Values = (&'static str, &'static [u32]);

impl CpuSchedule {
    /// The families with their parameters, as records name them.
    pub const FAMILIES: &[(&'static str, &'static [Values])] = &[
        ("product", &[("cut", &[128, 256, 512, 1024, 8192]), ("chunk", &[24, 48, 120, 240, 480]), ("panels", &[1, 2, 3, 4])]),
        ("winograd", &[("tile", &[2, 4, 6]), ("kept", &[64, 128, 256, 512, 1024, 4096])]),
    ];

    /// Of a family, by the values of its parameters.
    pub fn of(family: &str, values: &[u32]) -> Option<Self> {
        match (family, values) {
            ("product", &[cut, chunk, panels]) => Some(Self::Product(Blocking { cut, chunk, panels })),
            ("winograd", &[tile, kept]) => Some(Self::Winograd(Filtering { tile, kept })),
            _ => None,
        }
    }

    /// Of a family, by the names of its parameters; `None` where one is missing or has a value of its own.
    pub fn named(family: &str, schedule: &BTreeMap<String, i64>) -> Option<Self> {
        let params = Self::FAMILIES.iter().find(|f| f.0 == family)?.1;
        let value = |(name, values): &Values| {
            let found = u32::try_from(*schedule.get(*name)?).ok()?;
            values.contains(&found).then_some(found)
        };
        Self::of(family, &params.iter().map(value).collect::<Option<Vec<u32>>>()?)
    }
}

impl Display for CpuSchedule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Product(Blocking { cut, chunk, panels }) => write!(f, "product cut={cut} chunk={chunk} panels={panels}"),
            Self::Winograd(Filtering { tile, kept }) => write!(f, "winograd tile={tile} kept={kept}"),
        }
    }
}

/// The schedules for one kind of processor and number of threads.
#[derive(Debug, Clone, PartialEq)]
pub struct CpuSchedules {
    /// The processor, as the runtime names it.
    pub device: String,
    /// Threads of the pool.
    pub threads: u32,
    /// By bucket and step, in order of execution.
    pub steps: Vec<CpuStep>,
}
codec_struct!(CpuSchedules { device, threads, steps });

/// A step's schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuStep {
    /// The bucket's number.
    pub bucket: u32,
    /// The step's.
    pub step: u32,
    /// How it runs.
    pub schedule: CpuSchedule,
}
codec_struct!(CpuStep { bucket, step, schedule });

impl CpuSchedules {
    /// What records call a kind of processor and number of threads.
    pub fn target(device: &str, threads: u32) -> String {
        format!("cpu {device} x{threads}")
    }

    /// The kind of processor and number of threads that a target is.
    pub fn of_target(target: &str) -> Option<(&str, u32)> {
        let (device, threads) = target.strip_prefix("cpu ")?.rsplit_once(" x")?;
        Some((device, threads.parse().ok()?))
    }
}

impl Display for CpuSchedules {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Self::target(&self.device, self.threads))?;
        self.steps.iter().try_for_each(|s| write!(f, "\n    bucket {} step {}: {}", s.bucket, s.step, s.schedule))
    }
}
