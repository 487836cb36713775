//! The tree as PTX text. Every string of PTX is made here.

use super::{Cmp, Factor, GroupRows, Half, Kernel, MemTy, Op, Operand, Reg, Space, Special, Stmt, Ty};
use crate::arch::Arch;
use crate::layout::PERIOD;
use std::collections::BTreeMap;
use std::fmt::Write;
use wpk_plan::Module;

impl Kernel {
    /// What a plan launches.
    pub fn module(&self, arch: &Arch) -> Module {
        let (threads, blocks, shared) = (self.threads, self.blocks, self.shared);
        Module {
            entry: self.name.clone(),
            text: self.text(arch),
            threads,
            blocks,
            shared,
            maps: self.maps.clone(),
            parts: self.parts.clone(),
            overlaps: self.overlaps(),
            cubins: vec![],
            call: None,
        }
    }

    /// The text for an architecture.
    pub fn text(&self, arch: &Arch) -> String {
        let maps = self.maps.iter().map(|m| m.argument).collect();
        let mut printer = Printer { lines: vec![], labels: 0, counts: BTreeMap::new(), maps, cluster: self.cluster };
        printer.block(&self.body, 1);
        let param =
            |i| if printer.maps.contains(&i) { format!("    .param .align 64 .b8 p{i}[128]") } else { format!("    .param .u64 p{i}") };
        let params: Vec<String> = (0..self.params).map(param).collect();
        let cluster = if self.cluster > 1 { format!(".reqnctapercluster {}, 1, 1\n", self.cluster) } else { String::new() };
        let mut out = format!(".version {}\n.target {}\n.address_size 64\n\n", arch.version, arch.target);
        // Where descriptors name shared memory its swizzle counts from multiples of its period.
        let align = if self.groups() { PERIOD } else { 16 };
        // Writing to text cannot fail.
        if self.shared > Module::STATIC_SHARED {
            let _ = write!(out, ".extern .shared .align {align} .b8 tile[];\n\n");
        }
        let _ = write!(
            out,
            ".visible .entry {}(\n{}\n)\n.maxntid {}, 1, 1\n.minnctapersm 1\n{cluster}{{\n",
            self.name,
            params.join(",\n"),
            self.threads
        );
        for (class, count) in &printer.counts {
            let _ = writeln!(out, "    .reg .{} %{}<{}>;", class.0, class.1, count + 1);
        }
        // More than this is only given at launch, to a kernel that declares no size.
        if (1..=Module::STATIC_SHARED).contains(&self.shared) {
            let _ = writeln!(out, "    .shared .align {align} .b8 tile[{}];", self.shared);
        }
        out + &printer.lines.concat() + "    ret;\n}\n"
    }
}

/// The declared type of a register and its prefix.
fn class(ty: Ty) -> (&'static str, &'static str) {
    match ty {
        Ty::Pred => ("pred", "p"),
        Ty::B16 => ("b16", "h"),
        Ty::S32 | Ty::U32 => ("b32", "r"),
        Ty::S64 | Ty::U64 => ("b64", "d"),
        Ty::F32 => ("f32", "f"),
        Ty::F64 => ("f64", "g"),
    }
}

fn name(ty: Ty) -> &'static str {
    match ty {
        Ty::Pred => "pred",
        Ty::B16 => "b16",
        Ty::S32 => "s32",
        Ty::U32 => "u32",
        Ty::S64 => "s64",
        Ty::U64 => "u64",
        Ty::F32 => "f32",
        Ty::F64 => "f64",
    }
}

/// The type without sign, for operations on bits.
fn bits(ty: Ty) -> &'static str {
    match ty {
        Ty::F32 | Ty::F64 => name(ty),
        _ => class(ty).0,
    }
}

fn half(h: Half) -> &'static str {
    match h {
        Half::F16 => "f16",
        Half::Bf16 => "bf16",
    }
}

fn memory(ty: MemTy) -> &'static str {
    match ty {
        MemTy::U8 => "u8",
        MemTy::S8 => "s8",
        MemTy::U16 => "u16",
        MemTy::S16 => "s16",
        MemTy::B16 => "b16",
        MemTy::B32 => "b32",
        MemTy::B64 => "b64",
        MemTy::F32 => "f32",
        MemTy::F64 => "f64",
    }
}

struct Printer {
    lines: Vec<String>,
    labels: u32,
    /// By register class, the largest number used.
    counts: BTreeMap<(&'static str, &'static str), u32>,
    /// Parameters that are descriptions.
    maps: Vec<u32>,
    cluster: u32,
}

impl Printer {
    fn reg(&mut self, r: Reg) -> String {
        let class = class(r.ty);
        let count = self.counts.entry(class).or_default();
        *count = (*count).max(r.id);
        format!("%{}{}", class.1, r.id)
    }

    fn operand(&mut self, o: Operand, ty: Ty) -> String {
        match o {
            Operand::Reg(r) => self.reg(r),
            Operand::Imm(b) => match ty {
                Ty::F32 => format!("0f{:08X}", b as u32),
                Ty::F64 => format!("0d{b:016X}"),
                Ty::S32 => format!("{}", b as i32),
                Ty::U32 => format!("{}", b as u32),
                Ty::S64 => format!("{}", b as i64),
                _ => format!("{b}"),
            },
        }
    }

    fn block(&mut self, body: &[Stmt], depth: usize) {
        let pad = "    ".repeat(depth);
        for stmt in body {
            let line = match stmt {
                Stmt::Op { to, op, args } => self.op(*to, *op, args),
                Stmt::Load { space, ty, to, address, offset } => {
                    let regs: Vec<String> = to.iter().map(|r| self.reg(*r)).collect();
                    format!(
                        "ld.{}{}.{} {}, [{}+{offset}];",
                        memory_space(*space),
                        vector(regs.len()),
                        memory(*ty),
                        list(&regs),
                        self.reg(*address)
                    )
                }
                Stmt::Store { space, ty, from, address, offset } => {
                    let value = match ty {
                        MemTy::F32 => Ty::F32,
                        MemTy::F64 => Ty::F64,
                        _ => Ty::S64,
                    };
                    let values: Vec<String> = from.iter().map(|o| self.operand(*o, value)).collect();
                    format!(
                        "st.{}{}.{} [{}+{offset}], {};",
                        memory_space(*space),
                        vector(values.len()),
                        memory(*ty),
                        self.reg(*address),
                        list(&values)
                    )
                }
                Stmt::Barrier => "bar.sync 0;".to_owned(),
                Stmt::CopyAsync { bytes, to, offset, from, valid } => {
                    // Only whole sectors may bypass the first cache.
                    let cache = if *bytes == 16 { "cg" } else { "ca" };
                    let (to, from, valid) = (self.reg(*to), self.reg(*from), self.operand(*valid, Ty::U32));
                    format!("cp.async.{cache}.shared.global [{to}+{offset}], [{from}], {bytes}, {valid};")
                }
                Stmt::CommitCopies => "cp.async.commit_group;".to_owned(),
                Stmt::WaitCopies(n) => format!("cp.async.wait_group {n};"),
                Stmt::LoadMatrix { to, address, offset, transposed } => {
                    let regs: Vec<String> = to.iter().map(|r| self.reg(*r)).collect();
                    let trans = if *transposed { ".trans" } else { "" };
                    let address = self.reg(*address);
                    format!("ldmatrix.sync.aligned.m8n8.x{}{trans}.shared.b16 {{{}}}, [{address}+{offset}];", regs.len(), regs.join(", "))
                }
                Stmt::Mma { factor, sum, a, b } => {
                    let mut list = |regs: &[Reg]| format!("{{{}}}", regs.iter().map(|r| self.reg(*r)).collect::<Vec<_>>().join(", "));
                    let (sum, a, b) = (list(sum), list(a), list(b));
                    let (ty, sums) = match factor {
                        Factor::Half(h) => (half(*h), "f32"),
                        Factor::Tf32 => ("tf32", "f32"),
                        Factor::Bytes => ("s8", "s32"),
                    };
                    let depth = factor.depth();
                    format!("mma.sync.aligned.m16n8k{depth}.row.col.{sums}.{ty}.{ty}.{sums} {sum}, {a}, {b}, {sum};")
                }
                Stmt::GroupMma { factor, sums, adds, a, b, across } => self.group((*factor, *adds, *across), sums, *a, *b),
                Stmt::FenceProducts => "wgmma.fence.sync.aligned;".to_owned(),
                Stmt::CommitProducts => "wgmma.commit_group.sync.aligned;".to_owned(),
                Stmt::WaitProducts(n) => format!("wgmma.wait_group.sync.aligned {n};"),
                Stmt::FenceProxy => "fence.proxy.async.shared::cta;".to_owned(),
                Stmt::InitBarrier { .. }
                | Stmt::ExpectBytes { .. }
                | Stmt::Arrive { .. }
                | Stmt::AwaitBytes { .. }
                | Stmt::CopyTile { .. }
                | Stmt::Send { .. } => self.copy_engine(stmt),
                Stmt::FenceBarriers => "fence.mbarrier_init.release.cluster;".to_owned(),
                Stmt::ArriveCluster => "barrier.cluster.arrive.relaxed.aligned;".to_owned(),
                Stmt::WaitCluster => "barrier.cluster.wait.acquire.aligned;".to_owned(),
                Stmt::Fence => "fence.acq_rel.gpu;".to_owned(),
                Stmt::LaunchDependents => "griddepcontrol.launch_dependents;".to_owned(),
                Stmt::WaitDependencies => "griddepcontrol.wait;".to_owned(),
                Stmt::AtomicInc { to, address, limit } => {
                    format!("atom.relaxed.gpu.global.inc.u32 {}, [{}], {limit};", self.reg(*to), self.reg(*address))
                }
                Stmt::Loop { counter, test, count, rolled, body } => {
                    let label = format!("L{}", self.labels);
                    self.labels += 1;
                    let (counter, test) = (self.reg(*counter), self.reg(*test));
                    self.lines.push(format!("{pad}mov.u32 {counter}, 0;\n"));
                    let end = match count {
                        Operand::Imm(_) => String::new(),
                        // There may be none.
                        Operand::Reg(n) => {
                            let none = format!("setp.eq.u32 {test}, {}, 0;\n{pad}@{test} bra END_{label};", self.reg(*n));
                            self.lines.push(format!("{pad}{none}\n"));
                            format!("\nEND_{label}:")
                        }
                    };
                    let pragma = if *rolled { format!("{pad}.pragma \"nounroll\";\n") } else { String::new() };
                    self.lines.push(format!("{label}:\n{pragma}"));
                    self.block(body, depth);
                    let count = self.operand(*count, Ty::U32);
                    format!(
                        "add.u32 {counter}, {counter}, 1;\n{pad}setp.lt.u32 {test}, {counter}, {count};\n{pad}@{test} bra {label};{end}"
                    )
                }
                Stmt::If { condition, then } => {
                    let label = format!("L{}", self.labels);
                    self.labels += 1;
                    let condition = self.reg(*condition);
                    self.lines.push(format!("{pad}@!{condition} bra {label};\n"));
                    self.block(then, depth);
                    format!("{label}:")
                }
            };
            self.lines.push(format!("{pad}{line}\n"));
        }
    }

    fn group(&mut self, (factor, adds, across): (Factor, bool, bool), sums: &[Reg], a: GroupRows, b: Reg) -> String {
        let list = |all: &mut Self, regs: &[Reg]| regs.iter().map(|r| all.reg(*r)).collect::<Vec<_>>().join(", ");
        // Only halves may lie the other way round; of the first factor they do not, and what is in registers lies one way.
        let across = u32::from(across);
        let (a, way) = match a {
            GroupRows::Shared(a) => (self.reg(a), format!(", 0, {across}")),
            GroupRows::Registers(a) => (format!("{{{}}}", list(self, &a)), format!(", {across}")),
        };
        let (depth, ty, ways) = match factor {
            Factor::Half(h) => (16, half(h), way.as_str()),
            Factor::Tf32 => (8, "tf32", ""),
            // Of warpgroups only those of floats are generated.
            Factor::Bytes => (32, "s8", ""),
        };
        let (columns, adds, list, b) = (sums.len() * 2, u32::from(!adds), list(self, sums), self.reg(b));
        format!(
            "{{ .reg .pred adds; setp.eq.u32 adds, {adds}, 0; wgmma.mma_async.sync.aligned.m64n{columns}k{depth}.f32.{ty}.{ty} {{{list}}}, {a}, {b}, adds, 1, 1{ways}; }}"
        )
    }

    fn copy_engine(&mut self, stmt: &Stmt) -> String {
        match stmt {
            Stmt::InitBarrier { address, count } => format!("mbarrier.init.shared::cta.b64 [{}], {count};", self.reg(*address)),
            Stmt::ExpectBytes { address, bytes } => {
                format!("mbarrier.arrive.expect_tx.shared::cta.b64 _, [{}], {bytes};", self.reg(*address))
            }
            Stmt::Arrive { address } => {
                let of = if self.cluster > 1 { "cluster" } else { "cta" };
                format!("mbarrier.arrive.shared::{of}.b64 _, [{}];", self.reg(*address))
            }
            Stmt::AwaitBytes { address, parity } => {
                let label = format!("L{}", self.labels);
                self.labels += 1;
                let (address, parity) = (self.reg(*address), self.operand(*parity, Ty::U32));
                format!(
                    "{{ .reg .pred came; {label}: mbarrier.try_wait.parity.shared::cta.b64 came, [{address}], {parity}; @!came bra {label}; }}"
                )
            }
            Stmt::CopyTile { map, at, window, to, barrier, everywhere } => {
                let (map, to, barrier) = (self.reg(*map), self.reg(*to), self.reg(*barrier));
                let at: Vec<String> = at.iter().map(|o| self.operand(*o, Ty::S32)).collect();
                let (kind, blocks) = if *everywhere { (".multicast::cluster", ", all") } else { ("", "") };
                let (before, mode, window) = match window {
                    None => (String::new(), "tile", ""),
                    Some(window) => {
                        let [x, y] = window.map(|o| self.operand(o, Ty::U32));
                        (format!(" .reg .b16 x, y; cvt.u16.u32 x, {x}; cvt.u16.u32 y, {y};"), "im2col", ", {x, y}")
                    }
                };
                format!(
                    "{{ .reg .b16 all; mov.b16 all, {};{before} cp.async.bulk.tensor.{}d.shared::cluster.global.{mode}.mbarrier::complete_tx::bytes{kind} [{to}], [{map}, {{{}}}], [{barrier}]{window}{blocks}; }}",
                    (1 << self.cluster) - 1,
                    at.len(),
                    at.join(", ")
                )
            }
            Stmt::Send { from, to, offset, barrier } => {
                let values: Vec<String> = from.iter().map(|o| self.operand(*o, Ty::F32)).collect();
                let (to, barrier) = (self.reg(*to), self.reg(*barrier));
                format!(
                    "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes{}.b32 [{to}+{offset}], {}, [{barrier}];",
                    vector(values.len()),
                    list(&values)
                )
            }
            _ => String::new(),
        }
    }

    fn op(&mut self, to: Reg, op: Op, args: &[Operand]) -> String {
        let t = name(to.ty);
        let float = matches!(to.ty, Ty::F32 | Ty::F64);
        let (mnemonic, ty) = match op {
            Op::Set | Op::Mov => (format!("mov.{}", bits(to.ty)), to.ty),
            Op::Special(s) => {
                let source = match s {
                    Special::Thread => "%tid.x",
                    Special::Block => "%ctaid.x",
                    Special::Shared => "tile",
                };
                return format!("mov.u32 {}, {source};", self.reg(to));
            }
            Op::Param(n) if self.maps.contains(&n) => {
                return format!("{{ .reg .b64 at; mov.b64 at, p{n}; cvta.param.u64 {}, at; }}", self.reg(to));
            }
            Op::Param(n) => return format!("ld.param.u64 {}, [p{n}];", self.reg(to)),
            Op::Add => (format!("add{}.{t}", if float { ".rn" } else { "" }), to.ty),
            Op::Sub => (format!("sub{}.{t}", if float { ".rn" } else { "" }), to.ty),
            Op::Mul => (format!("mul{}.{t}", if float { ".rn" } else { ".lo" }), to.ty),
            Op::MulHi => ("mul.hi.u32".to_owned(), Ty::U32),
            Op::MulWide if to.ty == Ty::S64 => ("mul.wide.s32".to_owned(), Ty::S32),
            Op::MulWide => ("mul.wide.u32".to_owned(), Ty::U32),
            Op::Fma => (format!("fma.rn.{t}"), to.ty),
            Op::Div => (format!("div{}.{t}", if float { ".rn" } else { "" }), to.ty),
            Op::Max => (format!("max{}.{t}", if float { ".NaN" } else { "" }), to.ty),
            Op::Min => (format!("min{}.{t}", if float { ".NaN" } else { "" }), to.ty),
            Op::Sqrt => (format!("sqrt.rn.{t}"), to.ty),
            Op::Abs => (format!("abs.{t}"), to.ty),
            Op::Neg => (format!("neg.{t}"), to.ty),
            Op::And => (format!("and.{}", bits(to.ty)), to.ty),
            Op::Or => (format!("or.{}", bits(to.ty)), to.ty),
            Op::Xor => (format!("xor.{}", bits(to.ty)), to.ty),
            Op::Shl => (format!("shl.{}", bits(to.ty)), to.ty),
            Op::Shr => (format!("shr.{t}"), to.ty),
            Op::Compare(c, ty) => {
                let c = match c {
                    Cmp::Eq => "eq",
                    Cmp::Lt => "lt",
                    Cmp::Le => "le",
                    Cmp::Nan => "nan",
                };
                (format!("setp.{c}.{}", name(ty)), ty)
            }
            Op::Select => {
                let [a, b, c] = [args[0], args[1], args[2]];
                let (a, b) = (self.operand(a, to.ty), self.operand(b, to.ty));
                let c = self.operand(c, Ty::Pred);
                return format!("selp.{} {}, {a}, {b}, {c};", bits(to.ty), self.reg(to));
            }
            Op::Convert(from) => {
                let rounding = match (from, to.ty) {
                    (Ty::F32 | Ty::F64, Ty::S32 | Ty::U32 | Ty::S64 | Ty::U64) => ".rzi",
                    (Ty::F64, Ty::F32) => ".rn",
                    (Ty::F32, Ty::F64) => "",
                    (_, Ty::F32 | Ty::F64) => ".rn",
                    _ => "",
                };
                (format!("cvt{rounding}.{t}.{}", name(from)), from)
            }
            Op::ShuffleXor(mask) => {
                let x = self.operand(args[0], to.ty);
                return format!("shfl.sync.bfly.b32 {}, {x}, {mask}, 31, 0xffffffff;", self.reg(to));
            }
            Op::Uniform => {
                let x = self.operand(args[0], Ty::U32);
                return format!("shfl.sync.idx.b32 {}, {x}, 0, 31, 0xffffffff;", self.reg(to));
            }
            Op::Elect => return format!("elect.sync _|{}, 0xffffffff;", self.reg(to)),
            Op::Ballot => {
                let p = self.operand(args[0], Ty::Pred);
                return format!("vote.sync.ballot.b32 {}, {p}, 0xffffffff;", self.reg(to));
            }
            Op::Pack(h) => (format!("cvt.rn.{}x2.f32", half(h)), Ty::F32),
            Op::HighHalf => {
                let x = self.operand(args[0], Ty::U32);
                return format!("{{ .reg .b16 low; mov.b32 {{low, {}}}, {x}; }}", self.reg(to));
            }
            Op::LowHalf => ("cvt.u16.u32".to_owned(), Ty::U32),
            Op::ToTf32 => ("cvt.rna.tf32.f32".to_owned(), Ty::F32),
            Op::Exp2 => ("ex2.approx.ftz.f32".to_owned(), Ty::F32),
            Op::Recip => ("rcp.approx.ftz.f32".to_owned(), Ty::F32),
            Op::FromHalf => (format!("cvt.{t}.f16"), Ty::B16),
            Op::ToHalf => ("cvt.rn.f16.f32".to_owned(), Ty::F32),
            Op::Peer => ("mapa.shared::cluster.u32".to_owned(), Ty::U32),
            Op::Bits(from) => (format!("mov.b{}", if matches!(to.ty, Ty::S64 | Ty::U64 | Ty::F64) { 64 } else { 32 }), from),
            Op::Round => (format!("cvt.rni.{t}.{t}"), to.ty),
            Op::Floor => (format!("cvt.rmi.{t}.{t}"), to.ty),
            Op::Ceil => (format!("cvt.rpi.{t}.{t}"), to.ty),
        };
        let shift = matches!(op, Op::Shl | Op::Shr);
        let args: Vec<String> =
            args.iter().enumerate().map(|(i, a)| self.operand(*a, if shift && i == 1 { Ty::U32 } else { ty })).collect();
        format!("{mnemonic} {}, {};", self.reg(to), args.join(", "))
    }
}

fn memory_space(space: Space) -> &'static str {
    match space {
        Space::Global => "global",
        Space::Shared => "shared",
    }
}

fn vector(n: usize) -> &'static str {
    match n {
        2 => ".v2",
        4 => ".v4",
        _ => "",
    }
}

fn list(items: &[String]) -> String {
    if items.len() == 1 { items[0].clone() } else { format!("{{{}}}", items.join(", ")) }
}
