//! Large contractions by products of warpgroups, weights or another matrix brought by the copy engine (TMA), to two blocks at once where that
//! halves what comes from the second cache.

use super::Unsupported;
use super::engine;
use super::mma::{Facts, Product};
use super::wgmma::{self, Wgmma};
use crate::arch::Arch;
use crate::layout::PANEL;
use crate::ptx::Kernel;
use crate::schedule::{Schedule, schedule};

schedule! {
    /// How a large contraction is computed by warpgroups.
    Bulk(Product => Facts) = "bulk" {
        /// Rows of a block's tile.
        bm: [64, 128, 192, 256],
        /// Columns of a block's tile.
        bn: [64, 96, 128, 192, 256],
        /// Rows of a warpgroup.
        wm: [64, 128],
        /// Tiles in shared memory at once; two of them are read.
        stages: [3, 4, 5, 6, 8],
        /// Blocks that share the columns.
        cluster: [1, 2],
    }
}

impl Bulk {
    fn inner(&self) -> Wgmma {
        Wgmma { bm: self.bm, bn: self.bn, wm: self.wm, stages: self.stages, split: 1 }
    }

    fn fits(&self, f: &Facts) -> bool {
        // Blocks that copy rows themselves were measured to wait for each other longer than they gain.
        if self.cluster > 1 && !f.matrix {
            return false;
        }
        if f.across() && !self.bn.is_multiple_of(PANEL * self.cluster) {
            return false;
        }
        let tiles = u64::from(f.size.m.div_ceil(self.bm)) * u64::from(f.size.n.div_ceil(self.bn));
        f.columns && tiles >= u64::from(f.arch.sms) && self.bn.is_multiple_of(8 * self.cluster) && self.inner().fits(f)
    }

    fn estimate(&self, f: &Facts) -> f64 {
        self.inner().cost_with(f, Some(self.cluster))
    }
}

/// The kernel of a contraction; its parameters are the factors, the extra operands, then the output.
///
/// # Errors
/// Where the schedule does not fit, or a type or function is not generated yet.
pub fn bulk(p: &Product, s: &Bulk, arch: &Arch) -> Result<Kernel, Unsupported> {
    if !s.legal(&Facts::of(p, arch)) || engine::columns(p, s.bn / s.cluster).is_none() {
        return Err(Unsupported(format!("{s} does not fit a contraction of {} over {:?}", p.contraction.dtype, p.contraction.space)));
    }
    wgmma::generate(p, &s.inner(), Some(s.cluster), arch)
}
