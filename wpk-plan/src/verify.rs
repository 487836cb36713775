//! Checks that a plan cannot touch memory it does not own, nor read what a step does not wait for.

use crate::{Arg, Block, Body, CpuStep, Edge, EdgeKind, Kernel, Place, Plan, Problem, Program, Step, WeightLayout};
use std::fmt;

/// One thing wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: bucket, step and origin.
    pub place: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl Program {
    /// Every fault; an executor may run a program without any.
    pub fn verify(&self) -> Vec<Fault> {
        let mut faults = vec![];
        for (i, (sizes, plan)) in self.buckets.iter().enumerate() {
            if sizes.len() != self.dims.len() {
                faults.push(Fault { place: format!("bucket {i}"), message: "sizes and dimensions differ in number".to_owned() });
            }
            let check = Check { program: self, plan, bucket: i };
            check.body(&plan.body, &mut faults);
        }
        let gpus = self.gpus.iter().flat_map(|g| &g.plans);
        for plan in self.buckets.iter().map(|b| &b.1).chain(gpus) {
            let own = plan.port_faults(self.dims.len()).into_iter();
            faults.extend(own.map(|message| Fault { place: plan.target.clone(), message }));
        }
        for cpu in &self.cpus {
            let product = |s: &CpuStep| {
                let steps = self.buckets.get(s.bucket as usize).map(|b| b.1.body.steps());
                steps.is_some_and(|all| all.get(s.step as usize).is_some_and(|s| matches!(s.kernel.problem(), Problem::Contraction(_))))
            };
            if !cpu.steps.iter().all(product) {
                faults.push(Fault { place: format!("schedules for {}", cpu.device), message: "one is of no product".to_owned() });
            }
        }
        for gpu in &self.gpus {
            if gpu.plans.len() != self.buckets.len() {
                faults.push(Fault { place: gpu.arch.clone(), message: "plans and buckets differ in number".to_owned() });
            }
            let overlaps = |s: &Step| matches!(s.kernel, Kernel::Gpu(_, _, m) if gpu.modules.get(m as usize).is_some_and(|m| m.overlaps));
            for (bucket, plan) in gpu.plans.iter().enumerate() {
                Check { program: self, plan, bucket }.body(&plan.body, &mut faults);
                let missing = |s: &&Step| !matches!(s.kernel, Kernel::Gpu(_, _, m) if (m as usize) < gpu.modules.len());
                let hasty = |s: &&Step| matches!(s.kernel, Kernel::Gpu(_, _, m) if gpu.modules.get(m as usize).is_some_and(|m| m.overlaps && m.call.is_some()));
                for step in plan.body.steps().into_iter().filter(hasty) {
                    faults
                        .push(Fault { place: format!("{} ({})", gpu.arch, step.origin), message: "a call cannot start early".to_owned() });
                }
                for step in plan.body.steps() {
                    let Kernel::Gpu(_, _, m) = step.kernel else { continue };
                    let Some(module) = gpu.modules.get(m as usize) else { continue };
                    let arguments = step.arguments(module);
                    if let Some(message) = module.parts.as_ref().and_then(|p| unmade(step, module, p)) {
                        faults.push(Fault { place: format!("{} ({})", gpu.arch, step.origin), message });
                    }
                    for map in &module.maps {
                        let parts = module.parts.as_ref().filter(|p| p.argument == map.argument);
                        let room = parts.map_or(arguments.get(map.argument as usize).map(|a| a.bytes), |p| p.bytes());
                        let beyond = || room.is_none_or(|r| map.bytes().is_none_or(|b| b > r)).then_some("reaches beyond its argument");
                        if let Some(what) = map.fault().or_else(beyond) {
                            let message = format!("the map of argument {} {what}", map.argument);
                            faults.push(Fault { place: format!("{} ({})", gpu.arch, step.origin), message });
                        }
                    }
                }
                for step in plan.body.steps().into_iter().filter(missing) {
                    faults.push(Fault { place: format!("{} ({})", gpu.arch, step.origin), message: "has no module".to_owned() });
                }
                for block in &plan.body.blocks {
                    let Block::Run(steps) = block else { continue };
                    let early = |s: &Step, e: &Edge| {
                        e.kind == EdgeKind::Programmatic && !(overlaps(s) && steps.get(e.step as usize).is_some_and(overlaps))
                    };
                    for step in steps.iter().filter(|s| s.after.iter().any(|e| early(s, e))) {
                        let message = "starts before a step that it depends on has ended, without waiting".to_owned();
                        faults.push(Fault { place: format!("{} ({})", gpu.arch, step.origin), message });
                    }
                }
            }
        }
        for (i, s) in self.sections.iter().enumerate().filter(|(_, s)| s.offset % 64 != 0) {
            faults.push(Fault { place: format!("section {i}"), message: format!("offset {} is not aligned", s.offset) });
        }
        faults
    }
}

/// Why the parts that a kernel takes cannot be made of its argument.
fn unmade(step: &Step, module: &crate::Module, parts: &crate::Parts) -> Option<String> {
    let panels = matches!(step.kernel, Kernel::Gpu(_, WeightLayout::Panels16, _)) && parts.argument == 1;
    let argument = step.args.get(parts.argument as usize);
    let whole = argument.is_some_and(|a| matches!(a.place, Place::Weight(_)) && parts.given().is_some_and(|n| n <= a.bytes));
    let sound = panels && whole && parts.bytes().is_some() && module.call.is_none();
    (!sound).then(|| format!("the parts of argument {} are made of no weight in panels", parts.argument))
}

struct Check<'a> {
    program: &'a Program,
    plan: &'a Plan,
    bucket: usize,
}

impl Check<'_> {
    fn body(&self, body: &Body, faults: &mut Vec<Fault>) {
        for block in &body.blocks {
            match block {
                Block::Run(steps) => self.run(steps, faults),
                Block::If(cond, then, other) => {
                    self.condition(cond, faults);
                    self.body(then, faults);
                    self.body(other, faults);
                }
                Block::Loop(_, cond, body) => {
                    self.condition(cond, faults);
                    self.body(body, faults);
                }
            }
        }
    }

    fn condition(&self, arg: &Arg, faults: &mut Vec<Fault>) {
        if arg.bytes == 0 || self.capacity(arg.place).is_none_or(|c| arg.bytes > c) {
            faults.push(Fault { place: format!("bucket {}", self.bucket), message: "a condition lies outside its memory".to_owned() });
        }
    }

    /// Bytes available from a place on, or `None` where it does not exist.
    fn capacity(&self, place: Place) -> Option<usize> {
        match place {
            Place::Arena(offset) => self.plan.arena.checked_sub(offset),
            Place::Weight(i) => self.program.sections.get(i as usize).map(|s| s.bytes),
            Place::Input(i) => self.plan.inputs.get(i as usize).map(crate::Port::bytes),
            Place::Output(i) => self.plan.outputs.get(i as usize).map(crate::Port::bytes),
            Place::Scalar(_) | Place::Parameter(_) => Some(8),
        }
    }

    fn run(&self, steps: &[Step], faults: &mut Vec<Fault>) {
        let mut reach: Vec<Vec<bool>> = Vec::with_capacity(steps.len());
        for (i, step) in steps.iter().enumerate() {
            let mut say = |message: String| {
                faults.push(Fault { place: format!("bucket {} step {i} ({})", self.bucket, step.origin), message });
            };
            self.step(step, &mut say);
            let mut before = vec![false; i];
            for edge in &step.after {
                let e = edge.step as usize;
                if e >= i {
                    say(format!("waits for step {e}, which is not earlier"));
                    continue;
                }
                before[e] = true;
                reach[e].iter().enumerate().filter(|(_, r)| **r).for_each(|(j, _)| before[j] = true);
            }
            for (j, earlier) in steps[..i].iter().enumerate().filter(|(j, _)| !before[*j]) {
                if conflict(step, earlier) {
                    say(format!("touches memory of step {j} without waiting for it"));
                }
            }
            reach.push(before);
        }
    }

    fn step(&self, step: &Step, say: &mut impl FnMut(String)) {
        let (problem, layout) = (step.kernel.problem(), step.kernel.layout());
        let own = matches!(step.kernel, Kernel::Gpu(..));
        problem.faults().into_iter().for_each(&mut *say);
        let (inputs, outputs) = (problem.inputs(), problem.outputs());
        let operands = inputs.len() + outputs.len();
        if step.args.len() < operands || step.args.len() > operands + if own { 3 } else { 0 } {
            return say(format!("has {} arguments for {} operands", step.args.len(), inputs.len() + outputs.len()));
        }
        for arg in &step.args[operands..] {
            if !matches!(arg.place, Place::Arena(_)) || self.capacity(arg.place).is_none_or(|c| arg.bytes > c) {
                say("memory of its own leaves the arena".to_owned());
            }
        }
        for (i, (arg, operand)) in step.args.iter().zip(inputs.iter().chain(&outputs)).enumerate() {
            if self.capacity(arg.place).is_none_or(|c| arg.bytes > c) {
                say(format!("argument {i} leaves its memory"));
            }
            if arg.dtype != operand.dtype {
                say(format!("argument {i} is {}, the kernel takes {}", arg.dtype, operand.dtype));
            }
            let bytes = match (problem.packed(i), layout) {
                (Some(c), WeightLayout::Columns) => {
                    let (roles, size) = (c.roles(), c.dtype.bytes());
                    let columns = roles.count(&roles.batch).saturating_mul(roles.count(&roles.n));
                    Some(columns.saturating_mul(roles.column_len(size)).saturating_mul(size))
                }
                (Some(c), WeightLayout::Quads16) => Some(c.roles().quads_len()),
                (Some(c), layout) if layout.levels().is_some() => layout.levels().map(|bits| c.roles().levels_len(bits)),
                (Some(c), WeightLayout::Pairs16 | WeightLayout::Halves16) => Some(c.roles().packed_len().saturating_mul(2)),
                (Some(c), WeightLayout::Panels16) => Some(c.roles().packed_len().saturating_mul(4)),
                _ => operand.view.span().map(|s| s.1.saturating_mul(operand.dtype.bytes())),
            };
            if !operand.view.is_empty() && bytes.is_none_or(|b| b > arg.bytes) {
                say(format!("operand {i} reaches beyond its argument"));
            }
            if i >= inputs.len() && !matches!(arg.place, Place::Arena(_) | Place::Output(_)) {
                say(format!("output {i} is not writable"));
            }
        }
    }
}

fn conflict(a: &Step, b: &Step) -> bool {
    let overlaps = |x: &Arg, y: &Arg| match (x.place, y.place) {
        (Place::Arena(p), Place::Arena(q)) => p < q + y.bytes && q < p + x.bytes && x.bytes > 0 && y.bytes > 0,
        (p, q) => p == q,
    };
    let split = |s: &Step| s.kernel.problem().inputs().len().min(s.args.len());
    let (ra, wa) = a.args.split_at(split(a));
    let (rb, wb) = b.args.split_at(split(b));
    let any = |x: &[Arg], y: &[Arg]| x.iter().any(|p| y.iter().any(|q| overlaps(p, q)));
    any(wa, rb) || any(wa, wb) || any(ra, wb)
}
