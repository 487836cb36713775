//! Programmatic dependent launch: a kernel that may start while those it depends on still run, and waits for them itself.
//!
//! It is sound as long as every thread waits before its first access to memory that any kernel writes: then a kernel ends only
//! after all that it depends on, directly or through others, have ended.

use super::{Kernel, Op, Operand, Reg, Space, Stmt};
use std::collections::{BTreeMap, BTreeSet};

/// Most blocks by multiprocessor of a kernel that starts early. Every block pays for the instructions of this module: kernels of many
/// small blocks were measured to take twice as long with them, and have little to gain.
pub const BLOCKS: u32 = 4;

impl Kernel {
    /// The same kernel, which starts after all that it depends on.
    pub fn alone(mut self) -> Self {
        self.body.retain(|s| !matches!(s, Stmt::LaunchDependents | Stmt::WaitDependencies));
        self
    }

    /// Whether it may start before the kernels it depends on have ended, and lets others do so.
    pub fn overlaps(&self) -> bool {
        self.body.contains(&Stmt::LaunchDependents)
    }
}

/// Lets dependents start, and waits before the first access to global memory where the kernel has not waited itself.
///
/// Dependents start behind the main loop: blocks that come earlier take the room of a multiprocessor beside those that still work,
/// and then lie unevenly themselves.
pub fn arrange(body: &mut Vec<Stmt>, waits: bool) {
    if !waits {
        let first = body.iter().position(accesses).unwrap_or(body.len());
        body.insert(first, Stmt::WaitDependencies);
    }
    let behind = body.iter().rposition(|s| matches!(s, Stmt::Loop { .. })).map_or(0, |i| i + 1);
    body.insert(behind, Stmt::LaunchDependents);
}

/// Whether a statement, or one within it, accesses global memory.
fn accesses(s: &Stmt) -> bool {
    match s {
        Stmt::Loop { body, .. } | Stmt::If { then: body, .. } => body.iter().any(accesses),
        _ => accessed(s).is_some(),
    }
}

/// The register with the global address that a statement accesses.
fn accessed(s: &Stmt) -> Option<Reg> {
    match s {
        Stmt::Load { space: Space::Global, address, .. } | Stmt::Store { space: Space::Global, address, .. } => Some(*address),
        Stmt::CopyAsync { from, .. } => Some(*from),
        Stmt::CopyTile { map, .. } => Some(*map),
        Stmt::AtomicInc { address, .. } => Some(*address),
        _ => None,
    }
}

/// What is read or written too early.
pub(super) fn faults(kernel: &Kernel) -> Vec<String> {
    if !kernel.overlaps() {
        return vec![];
    }
    let mut origins = Origins { kernel, params: BTreeMap::new(), faults: vec![] };
    match kernel.body.iter().position(|s| *s == Stmt::WaitDependencies) {
        Some(end) => origins.walk(&kernel.body[..end]),
        None => origins.faults.push("not every thread waits for the kernels that this one depends on".to_owned()),
    }
    origins.faults
}

/// By register, the parameters that its value is computed from.
struct Origins<'a> {
    kernel: &'a Kernel,
    params: BTreeMap<u32, BTreeSet<u32>>,
    faults: Vec<String>,
}

impl Origins<'_> {
    fn walk(&mut self, body: &[Stmt]) {
        for s in body {
            match s {
                Stmt::Op { to, op: Op::Param(n), .. } => {
                    self.params.entry(to.id).or_default().insert(*n);
                }
                Stmt::Op { to, args, .. } => {
                    let from = args.iter().filter_map(|a| if let Operand::Reg(r) = a { self.params.get(&r.id) } else { None });
                    let all: BTreeSet<u32> = from.flatten().copied().collect();
                    self.params.entry(to.id).or_default().extend(all);
                }
                Stmt::If { then, .. } => self.walk(then),
                // Again for what one round leaves to the next.
                Stmt::Loop { body, .. } => (0..2).for_each(|_| self.walk(body)),
                _ => {}
            }
            let Some(address) = accessed(s) else { continue };
            let writes = matches!(s, Stmt::Store { .. } | Stmt::AtomicInc { .. });
            let known = self.params.get(&address.id);
            let constant = known.is_some_and(|p| !p.is_empty() && p.iter().all(|n| self.kernel.constant.contains(n)));
            if writes || !constant {
                self.faults.push(format!("{known:?} is accessed before the kernels that this one depends on have ended"));
            }
        }
    }
}
