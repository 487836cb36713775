//! Checks on the tree: types, definition before use, single assignment, vector widths.

use super::{Factor, GroupRows, Kernel, MemTy, Op, Operand, Reg, Space, Stmt, Ty};
use std::collections::BTreeSet;

impl Kernel {
    /// Every fault.
    pub fn verify(&self) -> Vec<String> {
        let mut check = Check { kernel: self, defined: BTreeSet::new(), variables: BTreeSet::new(), faults: vec![], divergent: 0 };
        if !self.threads.is_multiple_of(32) || !(32..=1024).contains(&self.threads) {
            check.faults.push(format!("{} threads are no whole warps of a block", self.threads));
        }
        if self.cluster == 0 || !self.blocks.is_multiple_of(self.cluster) || self.cluster > 8 {
            check.faults.push(format!("{} blocks are no whole clusters of {}", self.blocks, self.cluster));
        }
        for map in &self.maps {
            let fault = if map.argument < self.params { map.fault() } else { Some("is of no parameter") };
            check.faults.extend(fault.map(|what| format!("the map of parameter {} {what}", map.argument)));
        }
        if self.parts.as_ref().is_some_and(|p| p.argument >= self.params || p.bytes().is_none()) {
            check.faults.push("parts of no parameter".to_owned());
        }
        check.block(&self.body);
        check.faults.extend(super::dependents::faults(self));
        check.faults.extend(super::groups::faults(self));
        check.faults
    }
}

struct Check<'a> {
    kernel: &'a Kernel,
    defined: BTreeSet<Reg>,
    /// Registers whose first assignment is [`Op::Set`].
    variables: BTreeSet<Reg>,
    faults: Vec<String>,
    /// Conditions around the current statement.
    divergent: u32,
}

/// Whether registers of two types are the same hardware registers.
fn alike(a: Ty, b: Ty) -> bool {
    let size = |t: Ty| match t {
        Ty::S32 | Ty::U32 => 1,
        Ty::S64 | Ty::U64 => 2,
        other => 3 + other as i32,
    };
    size(a) == size(b)
}

impl Check<'_> {
    fn block(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Op { to, op, args } => self.op(*to, *op, args),
                Stmt::Load { space, ty, to, address, .. } => {
                    self.memory(*space, *ty, to.len(), *address);
                    for r in to {
                        self.held(*ty, r.ty);
                        self.define(*r, false);
                    }
                }
                Stmt::Store { space, ty, from, address, .. } => {
                    self.memory(*space, *ty, from.len(), *address);
                    for o in from {
                        if let Operand::Reg(r) = o {
                            self.held(*ty, r.ty);
                            self.used(*r);
                        }
                    }
                }
                Stmt::Barrier if self.divergent > 0 => self.faults.push("a barrier that not all threads may reach".to_owned()),
                Stmt::Barrier
                | Stmt::CommitCopies
                | Stmt::WaitCopies(_)
                | Stmt::Fence
                | Stmt::FenceProducts
                | Stmt::CommitProducts
                | Stmt::WaitProducts(_)
                | Stmt::FenceProxy
                | Stmt::FenceBarriers
                | Stmt::LaunchDependents
                | Stmt::WaitDependencies => {}
                Stmt::CopyAsync { bytes, to, from, valid, .. } => {
                    if !matches!(bytes, 4 | 8 | 16) {
                        self.faults.push(format!("an asynchronous copy of {bytes} bytes"));
                    }
                    self.typed(&Operand::Reg(*to), Ty::U32, "an address");
                    self.typed(&Operand::Reg(*from), Ty::U64, "an address");
                    self.typed(valid, Ty::U32, "a count of bytes");
                }
                Stmt::LoadMatrix { to, address, .. } => {
                    self.together("a load of matrices");
                    if !matches!(to.len(), 1 | 2 | 4) {
                        self.faults.push(format!("a load of {} matrices", to.len()));
                    }
                    self.typed(&Operand::Reg(*address), Ty::U32, "an address");
                    for r in to {
                        self.held(MemTy::B32, r.ty);
                        self.define(*r, false);
                    }
                }
                Stmt::Mma { factor, sum, a, b } => {
                    self.together("a product on tensor cores");
                    a.iter().chain(b).for_each(|r| self.typed(&Operand::Reg(*r), Ty::U32, "a factor"));
                    sum.iter().for_each(|r| self.typed(&Operand::Reg(*r), factor.sums(), "a sum"));
                }
                Stmt::GroupMma { factor, sums, a, b, across, .. } => {
                    self.together("a product of a warpgroup");
                    if factor.sums() != Ty::F32 {
                        self.faults.push("a product of bytes by a warpgroup".to_owned());
                    }
                    if *across && !matches!(factor, Factor::Half(_)) {
                        self.faults.push(format!("columns of {factor:?} that lie across the depth"));
                    }
                    if !self.kernel.threads.is_multiple_of(128) || !sums.len().is_multiple_of(4) || !(4..=128).contains(&sums.len()) {
                        self.faults.push(format!("a product of warpgroups for {} sums among {} threads", sums.len(), self.kernel.threads));
                    }
                    self.typed(&Operand::Reg(*b), Ty::U64, "a descriptor");
                    match a {
                        GroupRows::Shared(a) => self.typed(&Operand::Reg(*a), Ty::U64, "a descriptor"),
                        GroupRows::Registers(a) => a.iter().for_each(|r| self.typed(&Operand::Reg(*r), Ty::U32, "a factor")),
                    }
                    sums.iter().for_each(|r| self.typed(&Operand::Reg(*r), Ty::F32, "a sum"));
                }
                Stmt::ArriveCluster | Stmt::WaitCluster => self.together("a barrier of a cluster"),
                Stmt::InitBarrier { address, .. } | Stmt::ExpectBytes { address, .. } | Stmt::Arrive { address } => {
                    self.typed(&Operand::Reg(*address), Ty::U32, "an address");
                }
                Stmt::AwaitBytes { address, parity } => {
                    self.together("a wait for bytes");
                    self.typed(&Operand::Reg(*address), Ty::U32, "an address");
                    self.typed(parity, Ty::U32, "a parity");
                }
                Stmt::CopyTile { map, at, window, to, barrier, .. } => {
                    if !(if window.is_some() { &[4][..] } else { &[2, 5] }).contains(&at.len()) {
                        self.faults.push(format!("a tile at {} coordinates", at.len()));
                    }
                    window.iter().flatten().for_each(|o| self.typed(o, Ty::U32, "a position in a window"));
                    [to, barrier].iter().for_each(|r| self.typed(&Operand::Reg(**r), Ty::U32, "an address"));
                    self.typed(&Operand::Reg(*map), Ty::U64, "a map");
                    at.iter().for_each(|o| self.typed(o, Ty::S32, "a coordinate"));
                }
                Stmt::Send { from, to, barrier, .. } => {
                    self.memory(Space::Shared, MemTy::B32, from.len(), *to);
                    self.typed(&Operand::Reg(*barrier), Ty::U32, "an address");
                    for o in from {
                        if let Operand::Reg(r) = o {
                            self.used(*r);
                            if !matches!(r.ty, Ty::F32 | Ty::S32 | Ty::U32) {
                                self.faults.push(format!("{r:?} is sent, which has no 4 bytes"));
                            }
                        }
                    }
                }
                Stmt::AtomicInc { to, address, .. } => {
                    self.typed(&Operand::Reg(*address), Ty::U64, "an address");
                    self.held(MemTy::B32, to.ty);
                    self.define(*to, false);
                }
                Stmt::Loop { counter, count, body, .. } => {
                    if *count == Operand::Imm(0) || !alike(counter.ty, Ty::U32) {
                        self.faults.push(format!("a loop of {count:?} rounds counted by {counter:?}"));
                    }
                    self.typed(count, Ty::U32, "a count of rounds");
                    let outside = matches!(count, Operand::Reg(_)).then(|| self.defined.clone());
                    self.define(*counter, false);
                    self.block(body);
                    // Of no rounds, nothing is assigned.
                    if let Some(outside) = outside {
                        self.defined = outside;
                    }
                }
                Stmt::If { condition, then } => {
                    self.typed(&Operand::Reg(*condition), Ty::Pred, "a condition");
                    let outside = self.defined.clone();
                    self.divergent += 1;
                    self.block(then);
                    self.divergent -= 1;
                    // What only some threads assign is not defined for the rest.
                    self.defined = outside;
                }
            }
        }
    }

    /// What whole warps do.
    fn together(&mut self, what: &str) {
        if self.divergent > 0 {
            self.faults.push(format!("{what} that not all threads may reach"));
        }
    }

    fn memory(&mut self, space: Space, ty: MemTy, n: usize, address: Reg) {
        if !matches!(n, 1 | 2 | 4) || n * ty.bytes() > 16 {
            self.faults.push(format!("an access of {n} elements of {} bytes", ty.bytes()));
        }
        self.typed(&Operand::Reg(address), if space == Space::Global { Ty::U64 } else { Ty::U32 }, "an address");
    }

    /// Whether a register can hold an element.
    fn held(&mut self, ty: MemTy, reg: Ty) {
        let fits = match ty {
            MemTy::B16 => reg == Ty::B16,
            MemTy::F32 => reg == Ty::F32,
            MemTy::F64 => reg == Ty::F64,
            MemTy::B64 => matches!(reg, Ty::S64 | Ty::U64),
            _ => matches!(reg, Ty::S32 | Ty::U32),
        };
        if !fits {
            self.faults.push(format!("an element of {ty:?} in a register of {reg:?}"));
        }
    }

    fn used(&mut self, r: Reg) {
        if !self.defined.contains(&r) {
            self.faults.push(format!("{r:?} is read before it is assigned"));
        }
    }

    fn define(&mut self, r: Reg, again: bool) {
        if !self.defined.insert(r) && !again {
            self.faults.push(format!("{r:?} is assigned twice"));
        }
    }

    fn typed(&mut self, o: &Operand, ty: Ty, what: &str) {
        if let Operand::Reg(r) = o {
            if !alike(r.ty, ty) {
                self.faults.push(format!("{what} is {:?} instead of {ty:?}", r.ty));
            }
            self.used(*r);
        }
    }

    fn op(&mut self, to: Reg, op: Op, args: &[Operand]) {
        let t = to.ty;
        let expected: Vec<Ty> = match op {
            Op::Special(_) | Op::Param(_) | Op::Elect => vec![],
            Op::Set | Op::Mov | Op::Sqrt | Op::Abs | Op::Neg | Op::Round | Op::Floor | Op::Ceil => vec![t],
            Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Max | Op::Min | Op::And | Op::Or | Op::Xor => vec![t, t],
            Op::Shl | Op::Shr => vec![t, Ty::U32],
            Op::MulHi | Op::MulWide | Op::Peer => vec![Ty::U32, Ty::U32],
            Op::Fma => vec![t, t, t],
            Op::Compare(_, ty) => vec![ty, ty],
            Op::Select => vec![t, t, Ty::Pred],
            Op::Convert(from) | Op::Bits(from) => vec![from],
            Op::ShuffleXor(_) | Op::Uniform => vec![t],
            Op::FromHalf => vec![Ty::B16],
            Op::ToHalf | Op::ToTf32 | Op::Exp2 | Op::Recip => vec![Ty::F32],
            Op::Pack(_) => vec![Ty::F32, Ty::F32],
            Op::LowHalf | Op::HighHalf => vec![Ty::U32],
            Op::Ballot => vec![Ty::Pred],
        };
        let result = match op {
            Op::Compare(..) => t == Ty::Pred,
            Op::ToHalf | Op::LowHalf | Op::HighHalf => t == Ty::B16,
            Op::Ballot | Op::Uniform => t == Ty::U32 && self.divergent == 0,
            Op::Elect => t == Ty::Pred && self.divergent == 0,
            Op::Pack(_) | Op::ToTf32 => t == Ty::U32,
            Op::Exp2 | Op::Recip => t == Ty::F32,
            Op::Special(_) | Op::MulHi | Op::Peer => t == Ty::U32,
            Op::ShuffleXor(mask) => matches!(t, Ty::F32 | Ty::S32 | Ty::U32) && (1..32).contains(&mask) && self.divergent == 0,
            Op::Param(_) => t == Ty::U64,
            Op::MulWide => matches!(t, Ty::U64 | Ty::S64),
            Op::Max | Op::Min => matches!(t, Ty::F32 | Ty::S32 | Ty::U32 | Ty::S64 | Ty::U64),
            Op::Sqrt | Op::Fma | Op::Round | Op::Floor | Op::Ceil | Op::FromHalf => matches!(t, Ty::F32 | Ty::F64),
            _ => true,
        };
        if !result || expected.len() != args.len() {
            self.faults.push(format!("{op:?} of {} operands into {t:?}", args.len()));
        }
        for (a, ty) in args.iter().zip(expected) {
            self.typed(a, ty, "an operand");
        }
        if let Op::Param(n) = op
            && n >= self.kernel.params
        {
            self.faults.push(format!("there is no parameter {n}"));
        }
        if op == Op::Set {
            self.variables.insert(to);
        }
        self.define(to, self.variables.contains(&to));
    }
}
