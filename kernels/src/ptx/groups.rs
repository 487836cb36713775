//! Products of warpgroups run beside the warps that begin them: until they were waited for, their sums belong to them alone.

use super::{GroupRows, Kernel, Operand, Reg, Stmt};
use std::collections::{BTreeSet, VecDeque};

impl Kernel {
    /// Whether it multiplies by warpgroups, which only sm_90a can.
    pub fn groups(&self) -> bool {
        any(&self.body)
    }
}

/// Whether any statement is a product of a warpgroup.
fn any(body: &[Stmt]) -> bool {
    body.iter().any(|s| match s {
        Stmt::GroupMma { .. } => true,
        Stmt::Loop { body, .. } | Stmt::If { then: body, .. } => any(body),
        _ => false,
    })
}

/// Sums that are touched while products add to them, products without a fence before, and groups that nothing waits for.
pub(super) fn faults(kernel: &Kernel) -> Vec<String> {
    if !kernel.groups() {
        return vec![];
    }
    let mut flight = Flight::default();
    flight.walk(&kernel.body);
    if flight.under_way().any(|group| !group.sums.is_empty()) {
        flight.faults.push("products that nothing waits for".to_owned());
    }
    flight.faults.dedup();
    flight.faults
}

/// Registers of the products of a group: what they read, and what they add to.
#[derive(Default)]
struct Group {
    read: Vec<Reg>,
    sums: BTreeSet<Reg>,
}

#[derive(Default)]
struct Flight {
    /// Registers that were written since the last fence, and those that were read.
    fresh: BTreeSet<Reg>,
    read: BTreeSet<Reg>,
    fenced: bool,
    /// The groups under way, oldest first, and the products behind them.
    groups: VecDeque<Group>,
    open: Option<Group>,
    faults: Vec<String>,
}

impl Flight {
    fn under_way(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().chain(&self.open)
    }

    fn walk(&mut self, body: &[Stmt]) {
        for s in body {
            match s {
                Stmt::FenceProducts => {
                    self.fenced = true;
                    self.fresh.clear();
                    self.read.clear();
                }
                Stmt::GroupMma { sums, a, .. } => {
                    if let GroupRows::Registers(a) = a {
                        if a.iter().any(|r| self.fresh.contains(r)) {
                            self.faults.push("a product of a warpgroup reads registers that were written behind its fence".to_owned());
                        }
                        self.open.get_or_insert_default().read.extend(a);
                    }
                    if sums.iter().any(|r| self.fresh.contains(r) || self.read.contains(r)) {
                        self.faults.push("a product of a warpgroup adds to sums that were used behind its fence".to_owned());
                    }
                    if !self.fenced {
                        self.faults.push("a product of a warpgroup without a fence before it".to_owned());
                    }
                    self.open.get_or_insert_default().sums.extend(sums);
                }
                Stmt::CommitProducts => self.groups.push_back(self.open.take().unwrap_or_default()),
                Stmt::WaitProducts(n) => drop(self.groups.drain(..self.groups.len().saturating_sub(*n as usize))),
                // What is written before a barrier is read by products behind it.
                Stmt::Barrier | Stmt::AwaitBytes { .. } => self.fenced = false,
                // Again for what one round leaves to the next.
                Stmt::Loop { body, .. } => (0..2).for_each(|_| self.walk(body)),
                Stmt::If { then, .. } => self.walk(then),
                _ => self.touch(s),
            }
        }
    }

    fn touch(&mut self, s: &Stmt) {
        let (to, read): (Vec<Reg>, Vec<Operand>) = match s {
            Stmt::Op { to, args, .. } => (vec![*to], args.clone()),
            Stmt::Load { to, .. } | Stmt::LoadMatrix { to, .. } => (to.clone(), vec![]),
            Stmt::Store { from, .. } => (vec![], from.clone()),
            Stmt::Mma { sum, .. } => (sum.to_vec(), vec![]),
            _ => return,
        };
        let mut faults: Vec<String> = vec![];
        for r in to.iter().filter(|r| self.under_way().any(|group| group.read.contains(r))) {
            faults.push(format!("{r:?} is written while products read it"));
        }
        self.fresh.extend(&to);
        let read: Vec<Reg> = read.into_iter().filter_map(|o| if let Operand::Reg(r) = o { Some(r) } else { None }).collect();
        self.read.extend(&read);
        for r in to.into_iter().chain(read).filter(|r| self.under_way().any(|group| group.sums.contains(r))) {
            faults.push(format!("{r:?} is used while products add to it"));
        }
        self.faults.extend(faults);
    }
}
