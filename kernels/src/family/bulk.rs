//! Contractions by products of warpgroups, weights or another matrix brought by the copy engine (TMA), to two blocks at once where that
//! halves what comes from the second cache, and rows too where they are a matrix or what windows read of images.

use super::Unsupported;
use super::engine;
use super::mma::{Facts, Product};
use super::wgmma::{self, Wgmma};
use crate::arch::Arch;
use crate::layout::PANEL;
use crate::ptx::Kernel;
use crate::schedule::{Schedule, schedule};

schedule! {
    /// How a contraction is computed by warpgroups whose tiles the copy engine brings.
    Bulk(Product => Facts) = "bulk" {
        /// Rows of a block's tile.
        bm: [64, 128, 192, 256],
        /// Columns of a block's tile.
        bn: [16, 32, 64, 96, 128, 192, 256],
        /// Rows of a warpgroup.
        wm: [64, 128],
        /// Tiles in shared memory at once; two of them are read.
        stages: [3, 4, 5, 6, 8],
        /// Blocks that share the columns.
        cluster: [1, 2],
        /// Blocks that share the depth.
        split: [1, 2, 3, 4, 6, 8, 12, 16],
    }
}

impl Bulk {
    fn inner(&self) -> Wgmma {
        Wgmma { bm: self.bm, bn: self.bn, wm: self.wm, stages: self.stages, split: self.split }
    }

    fn fits(&self, f: &Facts) -> bool {
        let tiles = u64::from(f.size.m.div_ceil(self.bm)) * u64::from(f.size.n.div_ceil(self.bn));
        let large = tiles >= u64::from(f.arch.sms);
        // Blocks that copy rows themselves were measured to wait for each other longer than they gain.
        if self.cluster > 1 && !(f.matrix && large && self.split == 1) {
            return false;
        }
        if f.across() && !self.bn.is_multiple_of(PANEL * self.cluster) {
            return false;
        }
        f.columns && (f.matrix || large) && self.bn.is_multiple_of(8 * self.cluster) && self.inner().fits(f)
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
