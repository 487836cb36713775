//! The plan beside the float64 evaluator.

use crate::output::Output;
use crate::run::{beside, inputs, load, relative_error};
use crate::{ModelArgs, Outcome};
use clap::Args;
use serde_json::json;
use std::ops::RangeInclusive;
use std::path::Path;
use wpk_build::Compiled;
use wpk_build::graph::evaluate;
use wpk_kernels::{Rounding, Tensor, eval};
use wpk_plan::WeightLayout::{self, Halves16, Pairs16, Panels16, Quads16};
use wpk_plan::problem::Contraction;
use wpk_plan::{Place, Problem, Program};

#[derive(Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Largest relative error in the 2-norm
    #[arg(long, default_value_t = 1e-4)]
    tolerance: f64,
    /// Compares results only, with MODEL.out64.npy beside the model where there is one
    #[arg(long)]
    outputs: bool,
    /// Runs the model so often, and checks that every run gives the same bits
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Of a dimension with a range, the size of the request, as NAME=N; else one between the last two plans
    #[arg(long = "at", value_parser = crate::dim)]
    at: Vec<(String, RangeInclusive<usize>)>,
}

pub fn verify(args: &VerifyArgs) -> Outcome {
    if args.model.dims.iter().any(|d| d.1.start() < d.1.end()) {
        return request(args);
    }
    let compiled = args.model.model().build()?;
    let model = load(&compiled, args.model.cuda())?;
    let plan = &compiled.program.buckets[0].1;
    let given = inputs(&args.model.model, &plan.inputs)?;
    let bytes: Vec<Vec<u8>> = given.iter().map(Tensor::to_bytes).collect();
    let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    let mut results: Vec<Vec<u8>> = plan.outputs.iter().map(|p| vec![0; p.bytes()]).collect();
    let mut targets: Vec<&mut [u8]> = results.iter_mut().map(Vec::as_mut_slice).collect();
    let (mut first, mut largest, mut out) = (None, 0.0_f64, Output::new(args.model.json));
    if args.outputs || args.model.cuda().is_some() {
        model.run(0, &slices, &mut targets)?;
        same_bits(&mut out, &model, &slices, &targets, args.runs)?;
    } else {
        let mut reference = Reference::new(&compiled.program, &compiled.blob.to_bytes(), &given);
        let steps = plan.body.steps();
        model.run_traced(0, &slices, &mut targets, &mut |trace| {
            let error = reference.step(trace.step, &trace.outputs);
            largest = largest.max(error);
            if error > args.tolerance && first.is_none() {
                first = Some((trace.step, error));
            }
        })?;
        match first {
            Some((i, error)) => {
                let line = format!("first divergence at step {i}: relative error {error:.2e}\n  {}", steps[i]);
                out.say("divergence", json!({"step": i, "error": error, "origin": steps[i].origin}), &line);
            }
            None => {
                let line = format!("{} steps agree with float64 to {:.0e}, the worst to {largest:.2e}", steps.len(), args.tolerance);
                out.say("steps", json!(steps.len()), &line);
            }
        }
    }
    let worst = errors(&mut out, &args.model.model, &compiled, (&given, &results))?;
    if first.is_some() || worst > args.tolerance {
        return Err(format!("the plan differs from float64 by more than {:.0e}", args.tolerance).into());
    }
    Ok(())
}

/// A request between the sizes of plans, beside the graph that is imported at the request's own.
fn request(args: &VerifyArgs) -> Outcome {
    let compiled = args.model.model().build()?;
    let mut out = Output::new(args.model.json);
    compiled.inflexible.iter().for_each(|r| out.item("inflexible", json!(r), r));
    let mut exact = args.model.clone();
    for (name, range) in &mut exact.dims {
        let (least, most) = (*range.start(), *range.end());
        let between = (most.next_power_of_two() / 2 + most) / 2;
        let asked = args.at.iter().find(|a| a.0 == *name).map(|a| *a.1.start());
        let size = asked.unwrap_or_else(|| if least < most { between.clamp(least, most) } else { most });
        out.say("size", json!({"dimension": name, "size": size}), &format!("{name} = {size}"));
        *range = size..=size;
    }
    let exact = exact.model().build()?;
    let own = &exact.program.buckets[0].1;
    let given = inputs(&args.model.model, &own.inputs)?;
    let bytes: Vec<Vec<u8>> = given.iter().map(Tensor::to_bytes).collect();
    let tensors: Vec<wpk_rt::Given<'_>> = own.inputs.iter().zip(&bytes).map(|(p, b)| (p.shape.as_slice(), b.as_slice())).collect();
    let results = load(&compiled, args.model.cuda())?.run_dynamic(&tensors)?;
    if let Some((port, found)) = own.outputs.iter().zip(&results).find(|(p, r)| p.shape != r.0) {
        return Err(format!("output {} has extents {:?} instead of {:?}", port.name, found.0, port.shape).into());
    }
    let results: Vec<Vec<u8>> = results.into_iter().map(|r| r.1).collect();
    let worst = errors(&mut out, &args.model.model, &exact, (&given, &results))?;
    if worst > args.tolerance {
        return Err(format!("the request differs from float64 by more than {:.0e}", args.tolerance).into());
    }
    Ok(())
}

/// Runs a model as often as `runs` says in all, and compares every result with the first.
pub fn same_bits(out: &mut Output, model: &wpk_rt::Model, inputs: &[&[u8]], first: &[&mut [u8]], runs: usize) -> Outcome {
    for run in 1..runs {
        let mut again: Vec<Vec<u8>> = first.iter().map(|r| vec![0; r.len()]).collect();
        model.run(0, inputs, &mut again.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>())?;
        if !again.iter().zip(first).all(|(a, b)| a.as_slice() == &**b) {
            return Err(format!("run {run} gives other bits than run 0").into());
        }
    }
    out.say("runs", json!(runs), &format!("{runs} runs give the same bits"));
    Ok(())
}

/// What the results of a model should be: `MODEL.out64.npy`, or what the float64 evaluator gives.
pub fn expected(path: &Path, compiled: &Compiled, given: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let stored = beside(path, "out64");
    if stored.exists() { Ok(vec![crate::npy::read(&stored)?]) } else { Ok(evaluate(&compiled.graphs[0].0, given, Rounding::Never)) }
}

/// Prints the relative error of every result against `MODEL.out64.npy`, or the float64 evaluator; the largest.
pub fn errors(
    out: &mut Output,
    path: &Path,
    compiled: &Compiled,
    (given, results): (&[Tensor], &[Vec<u8>]),
) -> Result<f64, Box<dyn std::error::Error>> {
    let expected = expected(path, compiled, given)?;
    let mut worst: f64 = 0.0;
    for ((port, bytes), expected) in compiled.program.buckets[0].1.outputs.iter().zip(results).zip(&expected) {
        let found = Tensor::from_bytes(port.dtype, bytes);
        let error = relative_error(&found, expected);
        let largest = (0..found.len().min(expected.len())).map(|i| (found.f(i) - expected.f(i)).abs()).fold(0.0, f64::max);
        let line = format!("output {}: relative error {error:.2e}", port.name);
        out.item("outputs", json!({"name": port.name, "error": error, "largest": largest}), &line);
        worst = worst.max(error);
    }
    Ok(worst)
}

/// The plan's problems evaluated in float64, each on what the plan's steps before made: what a step is told to be wrong by is its own.
struct Reference<'a> {
    program: &'a Program,
    weights: Vec<Tensor>,
    inputs: Vec<Tensor>,
    memory: std::collections::BTreeMap<Place, Tensor>,
}

impl<'a> Reference<'a> {
    fn new(program: &'a Program, blob: &[u8], inputs: &[Tensor]) -> Self {
        let weights = program.sections.iter().map(|s| Tensor::from_bytes(s.dtype, &blob[s.offset..s.offset + s.bytes])).collect();
        Self { program, weights, inputs: inputs.to_vec(), memory: Default::default() }
    }

    /// Evaluates a step and returns the error of what the plan made of the same.
    fn step(&mut self, index: usize, found: &[&[u8]]) -> f64 {
        let plan = &self.program.buckets[0].1;
        let step = plan.body.steps()[index];
        let (problem, layout) = (step.kernel.problem(), step.kernel.layout());
        let count = problem.inputs().len();
        let mut operands: Vec<Tensor> = vec![];
        for arg in &step.args[..count] {
            let operand = match arg.place {
                Place::Weight(i) => self.weights[i as usize].clone(),
                Place::Input(i) => self.inputs[i as usize].clone(),
                place => self.memory.get(&place).cloned().unwrap_or_else(|| Tensor::zeros(arg.dtype, arg.bytes / arg.dtype.bytes())),
            };
            // A step may read bits as another type than they were written in.
            let same = operand.dtype == arg.dtype || operand.dtype.bytes() != arg.dtype.bytes();
            operands.push(if same { operand } else { Tensor::from_bytes(arg.dtype, &operand.to_bytes()) });
        }
        let mut problem = problem.clone();
        for (i, c) in packed(&mut problem) {
            let operand = &operands[i];
            operands[i] = match layout {
                Pairs16 => unpack(c, &unpaired(operand)),
                Quads16 => unpack(c, &unquaded(c, operand)),
                Panels16 | Halves16 => unpack(c, operand),
                _ => match layout.levels() {
                    Some(bits) => unpack(c, &numbers(c, &operand.to_bytes(), (layout, bits))),
                    None => continue,
                },
            };
        }
        let results = eval(&problem, &operands.iter().collect::<Vec<_>>(), Rounding::Never);
        let mut worst: f64 = 0.0;
        for (((arg, operand), result), bytes) in step.args[count..].iter().zip(problem.outputs()).zip(results).zip(found) {
            let plan_values = Tensor::from_bytes(arg.dtype, bytes);
            let offsets: Vec<usize> = operand.view.offsets().collect();
            worst = worst.max(relative_error(&plan_values.select(offsets.iter().copied()), &result.select(offsets.iter().copied())));
            // Parts of one buffer are written by several steps. Later ones are given what the plan made.
            let whole = self.memory.entry(arg.place).or_insert_with(|| Tensor::zeros(arg.dtype, 0));
            if whole.len() != arg.bytes / arg.dtype.bytes() || whole.dtype != arg.dtype {
                *whole = Tensor::zeros(arg.dtype, arg.bytes / arg.dtype.bytes());
            }
            offsets.into_iter().for_each(|o| whole.set(o, &plan_values, o));
        }
        worst
    }
}

/// The operands in the layout of the step, with the products whose second factors they are.
fn packed(problem: &mut Problem) -> Vec<(usize, &mut Contraction)> {
    match problem {
        Problem::Contraction(c) => vec![(1, c)],
        Problem::Chain(chain) => {
            let packed = chain.packed();
            let stages = chain.stages.iter_mut().enumerate();
            let products = stages.filter_map(|(at, stage)| match (packed.iter().find(|p| p.1 == at), &mut stage.problem) {
                (Some(&(i, _)), Problem::Contraction(c)) => Some((i, c)),
                _ => None,
            });
            products.collect()
        }
        _ => vec![],
    }
}

/// Panels of pairs as panels.
fn unpaired(pairs: &Tensor) -> Tensor {
    use wpk_plan::problem::PANEL;
    let mut panels = Tensor::zeros(pairs.dtype, pairs.len());
    for i in 0..pairs.len() {
        let (row, within) = (i / (2 * PANEL), i % (2 * PANEL));
        panels.set((2 * row + within % 2) * PANEL + within / 2, pairs, i);
    }
    panels
}

/// Panels of levels of so many bits as panels of numbers.
fn numbers(c: &Contraction, panels: &[u8], (layout, bits): (WeightLayout, usize)) -> Tensor {
    use wpk_plan::problem::{BLOCK, PANEL};
    let (roles, depth) = (c.roles(), c.inner().iter().product::<usize>());
    let scales = depth.div_ceil(BLOCK) * PANEL * 4;
    let mut all = vec![];
    for panel in panels.chunks(roles.levels_panel(bits)) {
        for (k, j) in (0..depth).flat_map(|k| (0..PANEL).map(move |j| (k, j))) {
            let at = 4 * (k / BLOCK * PANEL + j);
            let scale = panel[at..at + 4].try_into().map_or(0.0, f32::from_le_bytes);
            let row = &panel[scales + k * PANEL * bits / 8..];
            let level = match (bits, j < PANEL / 2) {
                (8, _) => row[j],
                (_, true) => row[j] & 15,
                _ => row[j - PANEL / 2] >> 4,
            };
            all.push(f64::from(layout.number(level) * scale));
        }
    }
    Tensor::floats(wpk_plan::DType::F32, all)
}

/// Panels of quads of bytes as panels of rows.
fn unquaded(c: &Contraction, quads: &Tensor) -> Tensor {
    use wpk_plan::problem::PANEL;
    let (roles, depth) = (c.roles(), c.inner().iter().product::<usize>());
    let (bytes, size) = (quads.to_bytes(), roles.quads_panel());
    let panel =
        |p: &[u8]| (0..depth * PANEL).map(|i| p[PANEL * (4 + i / PANEL / 4 * 4) + i % PANEL * 4 + i / PANEL % 4]).collect::<Vec<_>>();
    Tensor::from_bytes(wpk_plan::DType::I8, &bytes.chunks(size).flat_map(panel).collect::<Vec<_>>())
}

/// Packed weights back in the order that the problem's access states, as a dense tensor; the access is adapted.
fn unpack(c: &mut Contraction, packed: &Tensor) -> Tensor {
    use wpk_plan::problem::PANEL;
    let roles = c.roles();
    let (k, n) = (roles.k(), roles.n.clone());
    let (nk, nn) = (roles.count(&k), roles.count(&n));
    let (batch, kn, cols) = (roles.offsets(&c.b, &roles.batch), roles.offsets(&c.b, &k), roles.offsets(&c.b, &n));
    let (Some(batch), Some(kn), Some(cols)) = (batch, kn, cols) else { return packed.clone() };
    let len = c.b.view().span().map_or(0, |s| s.1);
    let mut dense = Tensor::zeros(packed.dtype, len);
    let panels = nn.div_ceil(PANEL);
    for (b, base) in batch.iter().enumerate() {
        for (i, row) in kn.iter().enumerate() {
            for (j, column) in cols.iter().enumerate() {
                let from = ((b * panels + j / PANEL) * nk + i) * PANEL + j % PANEL;
                dense.set((c.b.base() + base + row + column) as usize, packed, from);
            }
        }
    }
    dense
}

#[cfg(test)]
mod tests {
    use super::Reference;
    use wpk_build::Model;
    use wpk_build::onnx::parse;
    use wpk_kernels::Tensor;
    use wpk_plan::DType;
    use wpk_rt::{Device, Weights};
    use wpk_tests::text;

    #[test]
    fn a_step_that_is_wrong_is_the_first_that_diverges() {
        let model = "input x f32 8x64\nconst a f32 64x96 random\nconst b f32 96x48 random\nh = MatMul(x, a)\nr = Softmax(h) axis=-1\ny = MatMul(r, b)\noutput y";
        let source = parse(text::bytes(model)).expect("the model is read");
        let compiled = Model::new("m.onnx").build_from(&source).unwrap_or_else(|d| panic!("{d}"));
        let loaded = wpk_rt::Model::new(compiled.program.clone(), Weights::Owned(compiled.blob.to_bytes()), Device::Cpu).expect("it loads");
        let given = [Tensor::floats(DType::F32, text::random(1, 8 * 64).iter().map(|&v| f64::from(v as f32)).collect())];
        let bytes = given[0].to_bytes();
        let mut made: Vec<Vec<Vec<u8>>> = vec![];
        let mut result = vec![0; compiled.program.buckets[0].1.outputs[0].bytes()];
        let traced =
            loaded.run_traced(0, &[&bytes], &mut [&mut result], &mut |trace| made.push(trace.outputs.iter().map(|o| o.to_vec()).collect()));
        traced.expect("it runs");
        assert!(made.len() >= 3, "{}", compiled.program);
        for wrong in 0..made.len() {
            let mut reference = Reference::new(&compiled.program, &compiled.blob.to_bytes(), &given);
            let errors: Vec<f64> = (0..=wrong)
                .map(|step| {
                    let mut outputs = made[step].clone();
                    if step == wrong {
                        outputs[0][..4].copy_from_slice(&f32::NAN.to_le_bytes());
                    }
                    reference.step(step, &outputs.iter().map(Vec::as_slice).collect::<Vec<_>>())
                })
                .collect();
            assert!(errors[..wrong].iter().all(|&e| e < 1e-6) && errors[wrong] == f64::INFINITY, "{errors:?}");
        }
    }
}
