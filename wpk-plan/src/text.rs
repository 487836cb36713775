//! The text form of plans, for reviewers.

use crate::{Arg, Block, Body, DType, Expr, Place, Plan, Program, ScalarFn, Step};
use std::fmt::{self, Display, Formatter};

impl Display for ScalarFn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut uses = vec![0; self.insts.len()];
        let operands = self.insts.iter().flat_map(|i| i.expr.operands());
        operands.chain(self.outputs.iter().copied()).for_each(|x| uses[usize::from(x)] += 1);
        let inline = |x: u16| {
            uses[usize::from(x)] == 1 || matches!(self.insts[usize::from(x)].expr, Expr::Input(_) | Expr::Const(_) | Expr::Index(_))
        };
        let mut text: Vec<String> = vec![];
        let mut shared = vec![];
        for (i, inst) in self.insts.iter().enumerate() {
            let t = |x: u16| if inline(x) { text[usize::from(x)].clone() } else { format!("%{x}") };
            let body = match inst.expr {
                Expr::Input(n) => format!("${n}"),
                Expr::Const(bits) if inst.dtype.is_float() => format!("{:?}", f64::from_bits(bits)),
                Expr::Const(bits) if inst.dtype == DType::Bool => format!("{}", bits != 0),
                Expr::Const(bits) => format!("{}", bits as i64),
                Expr::Index(d) => format!("i{d}"),
                Expr::Unary(u, x) => format!("{u}({})", t(x)),
                Expr::Binary(b, x, y) => format!("{b}({}, {})", t(x), t(y)),
                Expr::Select(c, x, y) => format!("select({}, {}, {})", t(c), t(x), t(y)),
                Expr::Cast(x) => format!("{}({})", inst.dtype, t(x)),
            };
            if !inline(i as u16) && uses[i] > 1 {
                shared.push(format!("%{i} = {body}; "));
            }
            text.push(body);
        }
        let t = |x: u16| if inline(x) { text[usize::from(x)].clone() } else { format!("%{x}") };
        let outputs: Vec<String> = self.outputs.iter().map(|&o| t(o)).collect();
        write!(f, "{}{}", shared.concat(), outputs.join(", "))
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arena(o) => write!(f, "arena+{o}"),
            Self::Weight(i) => write!(f, "weight{i}"),
            Self::Input(i) => write!(f, "input{i}"),
            Self::Output(i) => write!(f, "output{i}"),
            Self::Scalar(x) => write!(f, "scalar {x:#x}"),
            Self::Parameter(i) => write!(f, "parameter{i}"),
        }
    }
}

impl Display for Arg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.place, self.dtype)
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let problem = self.kernel.problem();
        let (reads, writes) = self.args.split_at(problem.inputs().len().min(self.args.len()));
        let list = |args: &[Arg]| args.iter().map(Arg::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "{} = {} {}({})", list(writes), problem.family(), problem.describe(), list(reads))?;
        if !self.after.is_empty() {
            write!(f, " after {}", self.after.iter().map(|e| e.step.to_string()).collect::<Vec<_>>().join(","))?;
        }
        if !self.why.is_empty() {
            write!(f, " [{}]", self.why)?;
        }
        write!(f, "  ; {}", self.origin)
    }
}

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (kind, ports) in [("input", &self.inputs), ("output", &self.outputs)] {
            for (i, p) in ports.iter().enumerate() {
                writeln!(f, "  {kind}{i} {}: {}{:?}", p.name, p.dtype, p.shape)?;
            }
        }
        writeln!(f, "  arena {} bytes", self.arena)?;
        body(&self.body, 1, f)
    }
}

fn body(b: &Body, depth: usize, f: &mut Formatter<'_>) -> fmt::Result {
    let pad = "  ".repeat(depth);
    for block in &b.blocks {
        match block {
            Block::Run(steps) => {
                for (i, step) in steps.iter().enumerate() {
                    writeln!(f, "{pad}{i}: {step}")?;
                }
            }
            Block::If(cond, then, other) => {
                writeln!(f, "{pad}if {cond}")?;
                body(then, depth + 1, f)?;
                writeln!(f, "{pad}else")?;
                body(other, depth + 1, f)?;
            }
            Block::Loop(limit, cond, inner) => {
                writeln!(f, "{pad}loop at most {limit} while {cond}")?;
                body(inner, depth + 1, f)?;
            }
        }
    }
    Ok(())
}

impl Display for Program {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "model {}", self.name)?;
        for (i, s) in self.sections.iter().enumerate() {
            writeln!(f, "  weight{i}: {} {} {:?} at {}, {} bytes", s.dtype, s.layout, s.shape, s.offset, s.bytes)?;
        }
        for (sizes, plan) in &self.buckets {
            let sizes: Vec<String> = self.dims.iter().zip(sizes).map(|(d, n)| format!(" {}={n}", d.name)).collect();
            writeln!(f, "plan for {}{}", plan.target, sizes.concat())?;
            write!(f, "{plan}")?;
        }
        self.cpus.iter().try_for_each(|cpu| writeln!(f, "schedules for {cpu}"))?;
        for gpu in &self.gpus {
            for ((sizes, _), plan) in self.buckets.iter().zip(&gpu.plans) {
                let sizes: Vec<String> = self.dims.iter().zip(sizes).map(|(d, n)| format!(" {}={n}", d.name)).collect();
                writeln!(f, "plan for {}{}", plan.target, sizes.concat())?;
                write!(f, "{plan}")?;
            }
        }
        Ok(())
    }
}
