//! Architectures as table rows.

/// What kernels may be generated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arch {
    /// The `.target`.
    pub target: &'static str,
    /// The lowest `.version` that knows the target, so that old drivers load what is generated.
    pub version: &'static str,
    /// Bytes of shared memory that one block may have.
    pub shared: usize,
}

/// Every architecture, oldest first. Versions after the release notes of the PTX ISA.
pub const ARCHES: &[Arch] = &[
    Arch { target: "sm_75", version: "6.3", shared: 64 << 10 },
    Arch { target: "sm_80", version: "7.0", shared: 163 << 10 },
    Arch { target: "sm_86", version: "7.1", shared: 99 << 10 },
    Arch { target: "sm_89", version: "7.8", shared: 99 << 10 },
    Arch { target: "sm_90a", version: "8.0", shared: 227 << 10 },
    Arch { target: "sm_100", version: "8.6", shared: 227 << 10 },
    Arch { target: "sm_120", version: "8.7", shared: 99 << 10 },
];
