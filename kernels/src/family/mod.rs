//! Kernel families: one file each. A family turns a problem and a schedule into a kernel.

mod affine;
mod math;
mod output;
mod pointwise;
mod scalar;
mod simt;
mod tile;

pub use pointwise::{Pointwise, pointwise};
pub use simt::{Simt, simt};

/// Why no kernel can be generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported(pub String);

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no kernel: {}", self.0)
    }
}

impl std::error::Error for Unsupported {}
