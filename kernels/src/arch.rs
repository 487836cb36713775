//! Architectures as table rows.

/// What kernels may be generated for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arch {
    /// The `.target`.
    pub target: &'static str,
    /// The lowest `.version` that knows the target and what is generated for it, so that old drivers load that.
    pub version: &'static str,
    /// Bytes of shared memory that one block may have.
    pub shared: usize,
    /// Threads that a multiprocessor holds.
    pub threads: u32,
    /// Multiprocessors of its usual data-centre or largest GPU, for cost estimates.
    pub sms: u32,
    /// Bytes per nanosecond of that GPU's memory, for cost estimates.
    pub bandwidth: f64,
    /// Bytes of that GPU's second cache.
    pub cache: usize,
    /// Whether it copies from global to shared memory asynchronously.
    pub copies: bool,
    /// Whether a kernel may start before those it depends on have ended, and wait for them itself.
    pub dependents: bool,
    /// Half-precision multiply-adds in a cycle of a multiprocessor by `mma.sync` with `f32` sums, 0 where tensor cores lack its
    /// 16x8x16 form; half as many in TF32.
    pub matrix: f64,
    /// The same by products of warpgroups (`wgmma`), 0 where there are none.
    pub groups: f64,
    /// Multiprocessors that clusters of four or eight blocks find place on, which have all blocks in one group of multiprocessors
    /// (`cudaOccupancyMaxActiveClusters`); 0 where blocks that share the depth of a tile are no cluster that sends each other its sums.
    pub clusters: u32,
}

/// Every architecture, oldest first. Versions after the release notes of the PTX ISA, limits after the table of technical
/// specifications per compute capability in the CUDA C++ programming guide.
#[rustfmt::skip]
pub const ARCHES: &[Arch] = &[
    Arch { target: "sm_75", version: "6.3", shared: 64 << 10, threads: 1024, sms: 40, bandwidth: 320.0, cache: 4 << 20, copies: false, dependents: false, matrix: 0.0, groups: 0.0, clusters: 0 },
    Arch { target: "sm_80", version: "7.0", shared: 163 << 10, threads: 2048, sms: 108, bandwidth: 1555.0, cache: 40 << 20, copies: true, dependents: false, matrix: 1024.0, groups: 0.0, clusters: 0 },
    Arch { target: "sm_86", version: "7.1", shared: 99 << 10, threads: 1536, sms: 84, bandwidth: 768.0, cache: 6 << 20, copies: true, dependents: false, matrix: 256.0, groups: 0.0, clusters: 0 },
    Arch { target: "sm_89", version: "7.8", shared: 99 << 10, threads: 1536, sms: 128, bandwidth: 1008.0, cache: 72 << 20, copies: true, dependents: false, matrix: 512.0, groups: 0.0, clusters: 0 },
    Arch { target: "sm_90a", version: "8.1", shared: 227 << 10, threads: 2048, sms: 132, bandwidth: 3350.0, cache: 50 << 20, copies: true, dependents: true, matrix: 1110.0, groups: 2048.0, clusters: 120 },
    Arch { target: "sm_100", version: "8.6", shared: 227 << 10, threads: 2048, sms: 148, bandwidth: 8000.0, cache: 126 << 20, copies: true, dependents: true, matrix: 1280.0, groups: 0.0, clusters: 0 },
    Arch { target: "sm_120", version: "8.7", shared: 99 << 10, threads: 1536, sms: 170, bandwidth: 1792.0, cache: 96 << 20, copies: true, dependents: true, matrix: 512.0, groups: 0.0, clusters: 0 },
];

impl Arch {
    /// The row of a `.target`.
    pub fn named(target: &str) -> Option<&'static Self> {
        ARCHES.iter().find(|a| a.target == target)
    }

    /// Blocks of a kernel that a multiprocessor holds at once, at least one.
    pub fn resident(&self, threads: u32, registers: u32, shared: u32) -> u32 {
        let by_registers = 65536 / (registers.next_multiple_of(8) * threads).max(1);
        let by_shared = (self.shared as u32 + 1024) / (shared + 1024);
        by_registers.min(by_shared).min(self.threads / threads.max(1)).clamp(1, 32)
    }

    /// Cycles of so many blocks in clusters, by those that a wave of blocks on a multiprocessor takes, which holds so many at most.
    pub fn waves(&self, (blocks, cluster): (f64, u32), resident: f64, wave: impl Fn(f64) -> f64) -> f64 {
        let per_sm = (blocks / f64::from(if cluster > 2 { self.clusters.min(self.sms) } else { self.sms })).ceil();
        let (full, rest) = ((per_sm / resident).floor(), per_sm % resident);
        full * wave(resident) + if rest > 0.0 { wave(rest) } else { 0.0 }
    }
}
