//! GPU plans: the same drafts, each launched as a generated kernel.

use super::steps::{self, Buffer, Draft, Drafts, Launch, Target};
use super::{Weights, memory, plan};
use crate::custom::Call;
use crate::graph::Graph;
use crate::records::{Key, Records};
use std::collections::BTreeMap;
use wpk_kernels::arch::Arch;
use wpk_kernels::family::{Generated, heuristic};
use wpk_plan::problem::{Custom, Map, Move, Operand, Problem};
use wpk_plan::{Block, DType, Kernel, Module, Plan, ScalarFn, WeightLayout};

/// The kernels of an architecture's plans; equal problems share one.
pub struct Modules<'a> {
    arch: &'static Arch,
    /// All so far.
    pub list: Vec<Module>,
    known: BTreeMap<Key, Known>,
    records: &'a Records,
    /// Whether calls of libraries may stand in for kernels.
    pub libraries: bool,
    /// The calls of custom operators.
    pub custom: Vec<Call>,
    /// Problems without a record that serves, with the reason.
    pub missing: Vec<(Problem, WeightLayout, String)>,
}

/// A module that was generated before.
#[derive(Clone)]
struct Known {
    module: u32,
    /// Bytes of its own, and bytes that begin as zero.
    memory: (usize, usize),
    /// Bytes of the workspace of a library's call.
    call: usize,
    overlaps: bool,
    schedule: String,
    /// Estimated, whatever a record says: measured times and estimates do not compare, and no cover but one has all its records.
    cost: f64,
}

impl<'a> Modules<'a> {
    /// None so far; the schedules of records come first.
    pub fn new(arch: &'static Arch, records: &'a Records) -> Self {
        Self { arch, list: vec![], known: BTreeMap::new(), records, libraries: true, custom: vec![], missing: vec![] }
    }

    fn generated(&mut self, problem: &Problem, layout: WeightLayout) -> Result<Known, String> {
        let key = Key::new(problem, layout, self.arch);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        if let Problem::Custom(c) = problem {
            return self.called(c, key);
        }
        let record = self.records.get(&key).ok_or_else(|| "there is no record".to_owned());
        let (mut cubins, mut call) = (vec![], None);
        let estimated = heuristic(problem, layout, self.arch).map_err(|e| e.to_string())?;
        let recorded = record.and_then(|r| r.generate((problem, layout, self.arch), estimated.family).map(|made| (made, r)));
        let cost = estimated.cost;
        let (Generated { kernel, schedule, .. }, why) = match recorded {
            Ok(((made, faster), r)) => {
                cubins = r.cubins();
                let by = faster.as_ref().map_or(String::new(), |c| format!(" by {} engine {}", c.library, c.engine));
                call = faster;
                (made, format!("tuned on {}: {:.2} us{by}, {} of {}", r.device, r.best[0].ns / 1e3, r.search.0, r.search.1))
            }
            Err(reason) => {
                let near = self.records.nearest(problem, layout, self.arch, cost);
                let (made, why) = match near {
                    Some((near, r)) => (near, format!(" estimated, as {} on {}", r.problem, r.device)),
                    None => (estimated, " estimated".to_owned()),
                };
                let why = format!("{:.1} us{why}", made.cost / 1e3);
                self.missing.push((problem.clone(), layout, reason));
                (made, why)
            }
        };
        let call = call.filter(|_| self.libraries);
        let schedule = format!("{schedule} ({why})");
        if let Some(fault) = kernel.verify().first() {
            return Err(format!("the generated kernel is not valid: {fault}"));
        }
        let found = Known {
            module: self.list.len() as u32,
            memory: (kernel.workspace, kernel.zeroed),
            call: call.as_ref().map_or(0, |c| c.workspace),
            overlaps: kernel.overlaps() && call.is_none(),
            schedule,
            cost,
        };
        self.list.push(Module { cubins, call, overlaps: found.overlaps, ..kernel.module(self.arch) });
        self.known.insert(key, found.clone());
        Ok(found)
    }

    /// The kernel of a custom operator, which is the user's.
    fn called(&mut self, c: &Custom, key: Key) -> Result<Known, String> {
        let call = self.custom.iter().find(|call| call.symbol == c.symbol).ok_or("its call is not known")?;
        let module = call.module(self.arch, &self.records.folders)?;
        let schedule = format!("{} blocks of {} threads", module.blocks, module.threads);
        // What it takes is not known: as long as a pass over its operands.
        let operands = c.reads.iter().chain(&c.writes);
        let bytes: usize = operands.map(|(t, s)| t.bytes() * s.iter().product::<usize>()).sum();
        let cost = 1000.0 + bytes as f64 / self.arch.bandwidth;
        let known = Known { module: self.list.len() as u32, memory: (0, 0), call: 0, overlaps: false, schedule, cost };
        self.list.push(module);
        self.known.insert(key, known.clone());
        Ok(known)
    }

    /// The modules that some plans launch, numbered anew in those plans.
    pub fn used(&self, plans: &mut [Plan]) -> Vec<Module> {
        let mut numbers: BTreeMap<u32, u32> = BTreeMap::new();
        let mut list = vec![];
        for block in plans.iter_mut().flat_map(|p| &mut p.body.blocks) {
            let Block::Run(steps) = block else { continue };
            for step in steps {
                if let Kernel::Gpu(_, _, module) = &mut step.kernel {
                    *module = *numbers.entry(*module).or_insert_with(|| {
                        list.push(self.list[*module as usize].clone());
                        list.len() as u32 - 1
                    });
                }
            }
        }
        list
    }
}

/// Nanoseconds from one step to the next.
const STEP: f64 = 300.0;

/// The plan of an optimized graph for a GPU, with its estimated nanoseconds.
///
/// # Errors
/// Every step that has no kernel, with its ONNX nodes and the reason.
pub fn lower(graph: &Graph, weights: &mut Weights, modules: &mut Modules<'_>, target: Target<'_>) -> Result<(Plan, f64), Vec<String>> {
    let Drafts { steps, mut arena, inputs, outputs, weights } = steps::lower(graph, weights, target);
    let (mut launched, mut refused, mut total) = (vec![], vec![], 0.0);
    for draft in steps.into_iter().flat_map(apart) {
        match modules.generated(&draft.problem, draft.layout) {
            Err(reason) => refused.push(format!("{}: {reason}", draft.origin)),
            Ok(Known { module, memory: (workspace, zeroed), call, overlaps, schedule, cost }) => {
                total += STEP + cost;
                let mut draft = Draft { launch: Some(Launch { module, zeroed, overlaps }), why: schedule, ..draft };
                for bytes in [call, workspace].into_iter().filter(|&n| n > 0) {
                    draft.args.push((Buffer::Arena(arena.len()), DType::U8));
                    arena.push(bytes);
                }
                launched.push(draft);
            }
        }
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    let (steps, arena, zeroed) = memory::assign(Drafts { steps: launched, arena, inputs, outputs, weights });
    Ok((plan(graph, modules.arch.target, steps, (arena, zeroed)), total))
}

/// A move as maps, one for the fill and one for each part; anything else as it is.
fn apart(draft: Draft) -> Vec<Draft> {
    let Problem::Move(m) = &draft.problem else { return vec![draft] };
    let Move { dtype, out, fill, parts } = m.clone();
    let target = draft.args[draft.args.len() - 1];
    let map = |inputs: Vec<Operand>, function: ScalarFn, to: wpk_plan::View| {
        let outputs = vec![Operand { dtype, view: to }];
        Problem::Map(Map { shape: outputs[0].view.shape.clone(), inputs, function, outputs })
    };
    let mut maps = vec![];
    if let Some(bits) = fill {
        let mut function = ScalarFn::default();
        let value = function.push(wpk_plan::Expr::Const(bits), dtype);
        function.outputs = vec![value];
        maps.push((map(vec![], function, out), vec![target]));
    }
    for (part, arg) in parts.into_iter().zip(&draft.args).filter(|p| !p.0.from.is_empty()) {
        let from = Operand { dtype, view: part.from };
        maps.push((map(vec![from], ScalarFn::identity(dtype), part.to), vec![*arg, target]));
    }
    maps.into_iter().map(|(problem, args)| Draft { problem, args, ..draft.clone() }).collect()
}
