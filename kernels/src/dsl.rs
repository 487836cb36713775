//! The language kernels are written in: Rust functions that run at build time and leave a syntax tree.
//!
//! Values are typed; what is constant is folded as it is said, since nothing behind the tree but `ptxas` would do it.

mod branches;
mod bulk;
mod matrix;
pub use matrix::GroupMma;

use crate::arch::Arch;
use crate::ptx::dependents;
use crate::ptx::{Cmp, Kernel, MemTy, Op, Operand, Reg, Space, Special, Stmt, Ty};
use wpk_plan::{Parts, TensorMap};

/// A value: a register or a constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Val {
    /// The type.
    pub ty: Ty,
    /// Where it is.
    pub operand: Operand,
}

impl Val {
    /// The bits of a constant.
    pub fn constant(self) -> Option<u64> {
        match self.operand {
            Operand::Imm(bits) => Some(bits),
            Operand::Reg(_) => None,
        }
    }
}

/// A kernel being written.
#[derive(Default)]
pub struct Writer {
    blocks: Vec<Vec<Stmt>>,
    next: u32,
    shared: u32,
    packs: bool,
    /// Whether it may start before the kernels it depends on have ended, and whether it waits for them so far.
    dependents: bool,
    waits: bool,
    /// Most blocks of a kernel that does.
    early: u32,
    constant: Vec<u32>,
    maps: Vec<TensorMap>,
    parts: Option<Parts>,
    cluster: u32,
    /// Parameters that were read, with their registers.
    params: Vec<(u32, Reg)>,
    /// Whether results are rounded to half precision, so that elementary functions need not be exact in `f32`.
    pub fast: bool,
}

impl Writer {
    /// An empty kernel.
    pub fn new() -> Self {
        Self { blocks: vec![vec![]], cluster: 1, ..Self::default() }
    }

    /// An empty kernel for an architecture.
    pub fn for_arch(arch: &Arch) -> Self {
        Self { packs: arch.copies, dependents: arch.dependents, early: dependents::BLOCKS * arch.sms, ..Self::new() }
    }

    /// Whether two floats become halves of one register by one instruction.
    pub fn packs(&self) -> bool {
        self.packs
    }

    /// Ends the kernel.
    pub fn finish(mut self, name: &str, params: u32, threads: u32, blocks: u32) -> Kernel {
        let read = |&(n, to): &(u32, Reg)| Stmt::Op { to, op: Op::Param(n), args: vec![] };
        let mut body: Vec<Stmt> = self.params.iter().map(read).collect();
        body.extend(self.blocks.pop().unwrap_or_default());
        if self.dependents {
            dependents::arrange(&mut body, self.waits);
        }
        let (name, shared, cluster) = (name.to_owned(), self.shared, self.cluster);
        let (maps, parts, constant) = (self.maps, self.parts, self.constant);
        let kernel = Kernel { name, params, threads, blocks, shared, workspace: 0, zeroed: 0, cluster, maps, parts, constant, body };
        if blocks > self.early { kernel.alone() } else { kernel }
    }

    fn say(&mut self, stmt: Stmt) {
        if let Some(block) = self.blocks.last_mut() {
            block.push(stmt);
        }
    }

    fn fresh(&mut self, ty: Ty) -> Reg {
        self.next += 1;
        Reg { ty, id: self.next }
    }

    /// An operation into a new register.
    pub fn op(&mut self, ty: Ty, op: Op, args: &[Val]) -> Val {
        let to = self.fresh(ty);
        self.say(Stmt::Op { to, op, args: args.iter().map(|v| v.operand).collect() });
        Val { ty, operand: Operand::Reg(to) }
    }

    /// A constant of an integer type.
    pub fn int(&self, x: i64, ty: Ty) -> Val {
        let bits = if matches!(ty, Ty::S64 | Ty::U64) { x as u64 } else { u64::from(x as u32) };
        Val { ty, operand: Operand::Imm(bits) }
    }

    /// A constant of a floating type.
    pub fn float(&self, x: f64, ty: Ty) -> Val {
        let bits = if ty == Ty::F32 { u64::from((x as f32).to_bits()) } else { x.to_bits() };
        Val { ty, operand: Operand::Imm(bits) }
    }

    fn integers(a: Val, b: Val) -> Option<(u64, u64)> {
        let int = matches!(a.ty, Ty::S32 | Ty::U32 | Ty::S64 | Ty::U64);
        Some((a.constant()?, b.constant()?)).filter(|_| int)
    }

    fn is(v: Val, x: u64) -> bool {
        v.constant() == Some(x) && matches!(v.ty, Ty::S32 | Ty::U32 | Ty::S64 | Ty::U64)
    }

    /// `a + b`
    pub fn add(&mut self, a: Val, b: Val) -> Val {
        match Self::integers(a, b) {
            Some((x, y)) => self.int(x.wrapping_add(y) as i64, a.ty),
            _ if Self::is(b, 0) => a,
            _ if Self::is(a, 0) => b,
            _ => self.op(a.ty, Op::Add, &[a, b]),
        }
    }

    /// `a - b`
    pub fn sub(&mut self, a: Val, b: Val) -> Val {
        match Self::integers(a, b) {
            Some((x, y)) => self.int(x.wrapping_sub(y) as i64, a.ty),
            _ if Self::is(b, 0) => a,
            _ => self.op(a.ty, Op::Sub, &[a, b]),
        }
    }

    /// The larger or the smaller; where either is not a number, that.
    pub fn extreme(&mut self, larger: bool, a: Val, b: Val) -> Val {
        // From sm_80 on one instruction, as packing is.
        if a.ty == Ty::F32 && self.packs || !matches!(a.ty, Ty::F32 | Ty::F64) {
            return self.op(a.ty, if larger { Op::Max } else { Op::Min }, &[a, b]);
        }
        let less = if larger { self.compare(Cmp::Lt, a, b) } else { self.compare(Cmp::Lt, b, a) };
        let nan = self.compare(Cmp::Nan, b, b);
        let take = self.op(Ty::Pred, Op::Or, &[less, nan]);
        self.select(take, b, a)
    }

    /// `a * b`
    pub fn mul(&mut self, a: Val, b: Val) -> Val {
        match Self::integers(a, b) {
            Some((x, y)) => self.int(x.wrapping_mul(y) as i64, a.ty),
            _ if Self::is(b, 1) => a,
            _ if Self::is(a, 1) => b,
            _ if Self::is(a, 0) || Self::is(b, 0) => self.int(0, a.ty),
            _ => self.op(a.ty, Op::Mul, &[a, b]),
        }
    }

    /// `a * b + c`, rounded once.
    pub fn fma(&mut self, a: Val, b: Val, c: Val) -> Val {
        self.op(a.ty, Op::Fma, &[a, b, c])
    }

    /// A comparison.
    pub fn compare(&mut self, c: Cmp, a: Val, b: Val) -> Val {
        self.op(Ty::Pred, Op::Compare(c, a.ty), &[a, b])
    }

    /// `a` where `p` holds, else `b`.
    pub fn select(&mut self, p: Val, a: Val, b: Val) -> Val {
        if a == b { a } else { self.op(a.ty, Op::Select, &[a, b, p]) }
    }

    /// The number of this thread in the grid, for blocks of `threads`.
    pub fn thread(&mut self, threads: u32) -> Val {
        let block = self.op(Ty::U32, Op::Special(Special::Block), &[]);
        let thread = self.op(Ty::U32, Op::Special(Special::Thread), &[]);
        let size = self.int(i64::from(threads), Ty::U32);
        let first = self.mul(block, size);
        self.add(first, thread)
    }

    /// Quotient and remainder of a number below 2^31 by a constant, without a division: by a shift, or by the high half of a
    /// product (Granlund and Montgomery, 1994).
    pub fn div_rem(&mut self, x: Val, d: u32) -> (Val, Val) {
        if d == 1 {
            return (x, self.int(0, Ty::U32));
        }
        if d.is_power_of_two() {
            let (shift, mask) = (self.int(i64::from(d.trailing_zeros()), Ty::U32), self.int(i64::from(d - 1), Ty::U32));
            return (self.op(Ty::U32, Op::Shr, &[x, shift]), self.op(Ty::U32, Op::And, &[x, mask]));
        }
        let (magic, shift) = magic(d);
        let (magic, shift) = (self.int(i64::from(magic), Ty::U32), self.int(i64::from(shift), Ty::U32));
        let high = self.op(Ty::U32, Op::MulHi, &[x, magic]);
        let q = self.op(Ty::U32, Op::Shr, &[high, shift]);
        let d = self.int(i64::from(d), Ty::U32);
        let whole = self.mul(q, d);
        let r = self.sub(x, whole);
        (q, r)
    }

    /// The bytes that an index (signed) of elements of `size` bytes stands for.
    pub fn bytes(&mut self, index: Val, size: usize) -> Val {
        let wide = match index.constant() {
            Some(bits) => self.int(i64::from(bits as i32) * size as i64, Ty::S64),
            None => {
                let size = self.int(size as i64, Ty::S32);
                self.op(Ty::S64, Op::MulWide, &[index, size])
            }
        };
        Val { ty: Ty::U64, ..wide }
    }

    /// A parameter, which the kernel reads once, before all else.
    fn parameter(&mut self, param: u32) -> Val {
        let known = self.params.iter().find(|p| p.0 == param).map(|p| p.1);
        let reg = known.unwrap_or_else(|| self.fresh(Ty::U64));
        if known.is_none() {
            self.params.push((param, reg));
        }
        Val { ty: Ty::U64, operand: Operand::Reg(reg) }
    }

    /// The address of element `index` (signed) of `size` bytes behind a pointer parameter.
    pub fn element(&mut self, param: u32, index: Val, size: usize) -> Val {
        let base = self.parameter(param);
        let bytes = self.bytes(index, size);
        self.add(base, bytes)
    }

    /// Neighbouring elements at an address.
    pub fn load(&mut self, mem: MemTy, ty: Ty, address: Val, n: usize) -> Vec<Val> {
        self.load_at(mem, ty, address, 0, n)
    }

    /// Neighbouring elements some bytes behind an address.
    pub fn load_at(&mut self, mem: MemTy, ty: Ty, address: Val, offset: i32, n: usize) -> Vec<Val> {
        let Operand::Reg(address) = address.operand else { return vec![] };
        let to: Vec<Reg> = (0..n).map(|_| self.fresh(ty)).collect();
        self.say(Stmt::Load { space: space(address), ty: mem, to: to.clone(), address, offset });
        to.into_iter().map(|r| Val { ty, operand: Operand::Reg(r) }).collect()
    }

    /// Writes neighbouring elements.
    pub fn store(&mut self, mem: MemTy, address: Val, values: &[Val]) {
        self.store_at(mem, address, 0, values);
    }

    /// Writes neighbouring elements some bytes behind an address.
    pub fn store_at(&mut self, mem: MemTy, address: Val, offset: i32, values: &[Val]) {
        let Operand::Reg(address) = address.operand else { return };
        self.say(Stmt::Store { space: space(address), ty: mem, from: values.iter().map(|v| v.operand).collect(), address, offset });
    }

    /// Starts a copy of `bytes` from global to shared memory, of which `valid` are read and the rest are zeros.
    pub fn copy_async(&mut self, bytes: u32, to: Val, offset: i32, from: Val, valid: Val) {
        let (Operand::Reg(to), Operand::Reg(from)) = (to.operand, from.operand) else { return };
        self.say(Stmt::CopyAsync { bytes, to, offset, from, valid: valid.operand });
    }

    /// Closes the group of copies so far.
    pub fn commit_copies(&mut self) {
        self.say(Stmt::CommitCopies);
    }

    /// Waits until at most `n` groups of copies are under way.
    pub fn wait_copies(&mut self, n: u32) {
        self.say(Stmt::WaitCopies(n));
    }

    /// The register of a value; constants get one.
    fn register(&mut self, v: Val) -> Reg {
        match v.operand {
            Operand::Reg(r) => r,
            Operand::Imm(_) => {
                let to = self.fresh(v.ty);
                self.say(Stmt::Op { to, op: Op::Mov, args: vec![v.operand] });
                to
            }
        }
    }

    /// Says that no kernel writes what a parameter points to.
    pub fn constant_param(&mut self, param: u32) {
        self.constant.push(param);
    }

    /// Waits for the kernels that this one depends on, where it may start before they end. Without it, a kernel waits before its
    /// first access to global memory.
    pub fn wait_dependencies(&mut self) {
        if self.dependents && !self.waits {
            self.waits = true;
            self.say(Stmt::WaitDependencies);
        }
    }

    /// Orders accesses to global memory before and after, for the whole device.
    pub fn fence(&mut self) {
        self.say(Stmt::Fence);
    }

    /// Counts in global memory up to `limit` and from there to zero; the count before.
    pub fn atomic_inc(&mut self, address: Val, limit: u32) -> Val {
        let to = self.fresh(Ty::U32);
        if let Operand::Reg(address) = address.operand {
            self.say(Stmt::AtomicInc { to, address, limit });
        }
        Val { ty: Ty::U32, operand: Operand::Reg(to) }
    }

    /// The logical and of two predicates, where there are two.
    pub fn both(&mut self, a: Option<Val>, b: Option<Val>) -> Option<Val> {
        match (a, b) {
            (Some(a), Some(b)) => Some(self.op(Ty::Pred, Op::And, &[a, b])),
            (a, b) => a.or(b),
        }
    }

    /// `x * factor`
    pub fn scaled(&mut self, x: Val, factor: i64) -> Val {
        let factor = self.int(factor, x.ty);
        self.mul(x, factor)
    }

    /// `x + summand`
    pub fn plus(&mut self, x: Val, summand: i64) -> Val {
        let summand = self.int(summand, x.ty);
        self.add(x, summand)
    }

    /// Whether `x < limit`.
    pub fn below(&mut self, x: Val, limit: i64) -> Val {
        let limit = self.int(limit, x.ty);
        self.compare(Cmp::Lt, x, limit)
    }

    /// A variable, which [`Writer::assign`] may change.
    pub fn variable(&mut self, start: Val) -> Val {
        self.op(start.ty, Op::Set, &[start])
    }

    /// Gives a variable another value.
    pub fn assign(&mut self, variable: Val, value: Val) {
        if let Operand::Reg(to) = variable.operand {
            self.say(Stmt::Op { to, op: Op::Set, args: vec![value.operand] });
        }
    }

    /// Gives a variable what an operation yields.
    pub fn update(&mut self, variable: Val, op: Op, args: &[Val]) {
        if let Operand::Reg(to) = variable.operand {
            self.say(Stmt::Op { to, op, args: args.iter().map(|v| v.operand).collect() });
        }
    }

    /// Bytes of shared memory; returns the address where they begin.
    pub fn shared(&mut self, bytes: u32) -> Val {
        let at = self.shared.next_multiple_of(16);
        self.shared = at + bytes;
        let base = self.op(Ty::U32, Op::Special(Special::Shared), &[]);
        self.plus(base, i64::from(at))
    }

    /// Waits for all threads of the block.
    pub fn barrier(&mut self) {
        self.say(Stmt::Barrier);
    }
}

/// The memory that an address of this type names.
fn space(address: Reg) -> Space {
    if matches!(address.ty, Ty::S32 | Ty::U32) { Space::Shared } else { Space::Global }
}

/// Multiplier and shift with `x / d = mulhi(x, m) >> s` for every `x` below 2^31; `d` is no power of two.
fn magic(d: u32) -> (u32, u32) {
    let l = 32 - (d - 1).leading_zeros();
    let m = (1u64 << (31 + l)) / u64::from(d) + 1;
    (m as u32, l - 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn division_by_constants_is_exact() {
        let check = |x: u32, d: u32| {
            let (m, s) = super::magic(d);
            assert_eq!(((u64::from(x) * u64::from(m)) >> 32) >> s, u64::from(x / d), "{x} / {d}");
        };
        for d in (3..2000).chain([4097, 65_535, 1_000_003, 0x3fff_ffff, 0x7fff_ffff]).filter(|d: &u32| !d.is_power_of_two()) {
            for k in [0, 1, 2, 3, 1000, 0x7fff_ffff / d] {
                for x in [k.saturating_mul(d), k.saturating_mul(d).wrapping_sub(1), k.saturating_mul(d).saturating_add(1), 0x7fff_ffff] {
                    if x < 0x8000_0000 {
                        check(x, d);
                    }
                }
            }
        }
    }
}
