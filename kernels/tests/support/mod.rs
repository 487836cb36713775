//! What the tests of all families share.
#![allow(dead_code, reason = "no test uses all of it")]

pub mod contractions;
mod gpu;

use std::process::Command;
use wpk_kernels::arch::{ARCHES, Arch};
use wpk_kernels::emulate::Moment;
use wpk_kernels::family::Unsupported;
use wpk_kernels::ptx::Kernel;
use wpk_kernels::schedule::Schedule;
use wpk_kernels::{Data, Rounding, Tensor, emulate, eval};
use wpk_plan::problem::{Attention, Contraction, Operand, Problem};
use wpk_plan::{DType, WeightLayout};

/// Small random numbers.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    pub fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }
}

/// The kernel of a problem: by a legal schedule that the seed chooses, or by the heuristic.
pub fn generated<S: Schedule>(
    p: &S::Problem,
    arch: &Arch,
    seed: Option<u64>,
    make: impl Fn(&S::Problem, &S, &Arch) -> Result<Kernel, Unsupported>,
) -> Kernel {
    let chosen = |seed: u64| {
        let facts = S::facts(p, arch);
        let mut legal: Vec<S> = S::space().filter(|s| s.legal(&facts)).collect();
        legal.swap_remove(Random(seed).below(legal.len()))
    };
    let s = seed.map_or_else(|| S::heuristic(p, arch).expect("a schedule"), chosen);
    make(p, &s, arch).unwrap_or_else(|e| panic!("{seed:?} {s}: {e}"))
}

/// A family's heuristic kernels of some random problems, through `ptxas` for every architecture.
pub fn assemble_all<S: Schedule>(
    problem: impl Fn(u64) -> S::Problem,
    make: impl Fn(&S::Problem, &S, &Arch) -> Result<Kernel, Unsupported>,
) {
    for arch in ARCHES {
        for seed in 0..6 {
            assemble(&generated(&problem(seed), arch, None, &make), arch);
        }
    }
}

/// Verifies a kernel, runs it in the emulator on random operands, and compares with the evaluator.
#[track_caller]
pub fn check(problem: &Problem, kernel: &Kernel, seed: u64) {
    check_of(problem, WeightLayout::Dense, kernel, seed);
}

/// The same for a contraction whose second factor lies in a layout.
#[track_caller]
pub fn check_of(problem: &Problem, layout: WeightLayout, kernel: &Kernel, seed: u64) {
    if let Err(fault) = outcome_of(problem, layout, kernel, seed) {
        panic!("seed {seed}: {fault}\n{}\n{:?}", problem.describe(), problem.inputs());
    }
}

/// The first fault that verifier, emulator or evaluator find in a kernel, and the GPU where there is one.
pub fn outcome(problem: &Problem, kernel: &Kernel, seed: u64) -> Result<(), String> {
    outcome_of(problem, WeightLayout::Dense, kernel, seed)
}

/// The same for a contraction whose second factor lies in a layout.
pub fn outcome_of(problem: &Problem, layout: WeightLayout, kernel: &Kernel, seed: u64) -> Result<(), String> {
    outcome_with(problem, layout, kernel, seed, &[])
}

/// The same where some numbers stand among the elements of operands, by the operand's number.
pub fn outcome_with(problem: &Problem, layout: WeightLayout, kernel: &Kernel, seed: u64, planted: &[(usize, f64)]) -> Result<(), String> {
    if let Some(fault) = kernel.verify().first() {
        return Err(fault.clone());
    }
    let r = &mut Random(seed ^ 0x5555);
    let tensors: Vec<Tensor> = problem
        .inputs()
        .iter()
        .enumerate()
        .map(|(i, o)| {
            let n = o.view.span().map_or(0, |s| s.1);
            let mut number = || r.next() as f64 / f64::from(1u32 << 31) * 8.0 - 4.0;
            let data = if o.dtype.is_float() {
                let mut values: Vec<f64> = (0..n).map(|_| number()).collect();
                planted.iter().filter(|p| p.0 == i && n > 0).for_each(|p| values[(number() * 1e6).abs() as usize % n] = p.1);
                Data::Float(values)
            } else {
                Data::Int((0..n).map(|_| o.dtype.wrap((number() * 40.0) as i64)).collect())
            };
            // What the element type holds is what both sides compute with.
            Tensor::from_bytes(o.dtype, &Tensor { dtype: o.dtype, data }.to_bytes())
        })
        .collect();
    let expected = eval(problem, &tensors.iter().collect::<Vec<_>>(), Rounding::Never);
    let mut buffers: Vec<Vec<u8>> = tensors.iter().map(Tensor::to_bytes).collect();
    if let Problem::Contraction(c) = problem {
        buffers[1] = packed(c, layout, &buffers[1]);
    }
    buffers.extend(problem.outputs().iter().map(|o| vec![0xa5; o.view.span().map_or(0, |s| s.1) * o.dtype.bytes()]));
    buffers.extend([kernel.workspace, kernel.zeroed].iter().filter(|&&n| n > 0).map(|&n| vec![0; n]));
    let moment = if seed.is_multiple_of(2) { Moment::Earliest } else { Moment::Latest };
    emulate::run_with(kernel, &mut buffers, moment, seed)?;
    if buffers.iter().skip(tensors.len() + problem.outputs().len() + 1).flatten().any(|&b| b != 0) {
        return Err("memory is not left zero".to_owned());
    }
    let first = tensors.len();
    let bounds = bounds(problem, &tensors);
    compare(problem, &buffers[first..], &expected, &bounds)?;
    if let Some(found) = gpu::run(problem, layout, kernel, &buffers[..first]) {
        compare(problem, &found.map_err(|e| format!("on the GPU: {e}"))?, &expected, &bounds).map_err(|e| format!("on the GPU: {e}"))?;
    }
    Ok(())
}

/// The first output of a kernel by the bytes of its operands, in the emulator, and on the GPU where there is one.
pub fn outputs(problem: &Problem, layout: WeightLayout, kernel: &Kernel, inputs: &[Vec<u8>]) -> Vec<Vec<u8>> {
    assert_eq!(kernel.verify(), Vec::<String>::new());
    let bytes = |o: &Operand| vec![0; o.view.span().map_or(0, |s| s.1) * o.dtype.bytes()];
    let mut buffers: Vec<Vec<u8>> = inputs.iter().cloned().chain(problem.outputs().iter().map(bytes)).collect();
    emulate::run_with(kernel, &mut buffers, Moment::Latest, 0).unwrap_or_else(|e| panic!("{e}"));
    let mut found = vec![buffers.swap_remove(inputs.len())];
    if let Some(on_gpu) = gpu::run(problem, layout, kernel, inputs) {
        found.push(on_gpu.unwrap_or_else(|e| panic!("on the GPU: {e}")).swap_remove(0));
    }
    found
}

/// What rounding scores and weights may change: weights by twice the error of the scores, and by their own rounding.
fn attention_bounds(p: &Attention, inputs: &[Tensor]) -> (Tensor, f64) {
    let at = |t: &Tensor, o: &Operand| o.view.offsets().map(|i| t.f(i).abs()).collect::<Vec<f64>>();
    let (q, k) = (at(&inputs[0], &p.q), at(&inputs[1], &p.k));
    let depth = p.q.view.shape[3];
    let largest = |x: &[f64]| x.chunks(depth).map(|row| row.iter().sum::<f64>()).fold(0.0, f64::max);
    // |q| |k| summed is at most the largest sum of the one by the largest element of the other.
    let scores = p.scale * largest(&q) * k.iter().copied().fold(0.0, f64::max);
    let unit = f64::from(f32::EPSILON) / 2.0;
    let (factors, weights) = match (p.q.dtype, p.tf32) {
        (DType::F16, _) => (0.0, 1.0 / 2048.0),
        (DType::BF16, _) => (0.0, 1.0 / 256.0),
        (_, true) => (2.0 / 2048.0, 2.0 / 2048.0),
        (_, false) => (12.0 * unit, 12.0 * unit),
    };
    let mut positive = inputs.to_vec();
    let values = (0..positive[2].len()).map(|i| positive[2].f(i).abs()).collect();
    positive[2].data = Data::Float(values);
    let sums = eval(&Problem::Attention(p.clone()), &positive.iter().collect::<Vec<_>>(), Rounding::Never).remove(0);
    let keys = p.k.view.shape[2] as f64;
    (sums, 2.0 * scores * (factors + (depth as f64 + 3.0) * unit) + weights + (keys + 10.0) * unit)
}

/// A second factor as the compiler stores it.
pub fn packed(c: &Contraction, layout: WeightLayout, bytes: &[u8]) -> Vec<u8> {
    let floats: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let bytes_of = |x: &[f32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let found = match layout {
        WeightLayout::Dense => Some(bytes.to_vec()),
        WeightLayout::Panels16 => c.roles().pack(&c.b, &floats).map(|p| bytes_of(&p)),
        WeightLayout::Columns if c.tf32 => {
            let rounded: Vec<f32> = floats.iter().map(|&x| wpk_plan::number::tf32(x)).collect();
            c.roles().columns(&c.b, &bytes_of(&rounded), 4)
        }
        WeightLayout::Columns => c.roles().columns(&c.b, bytes, c.dtype.bytes()),
        _ => panic!("{layout} is not made of numbers"),
    };
    found.expect("a second factor without bounds")
}

/// What rounding may add to each element of the first output: a unit in the last place for every term of its sum, as large
/// as the sum of the terms' absolute values.
fn bounds(problem: &Problem, inputs: &[Tensor]) -> Option<(Tensor, f64)> {
    if let Problem::Attention(p) = problem {
        return Some(attention_bounds(p, inputs));
    }
    let terms: usize = match problem {
        Problem::Contraction(c) => c.inner().iter().product(),
        Problem::Reduce(r) => r.input.view.len() / r.output.view.len().max(1),
        Problem::Window(w) => w.dims.iter().map(|d| d.size).product(),
        _ => return None,
    };
    let absolute = |t: &Tensor| match &t.data {
        Data::Float(x) => Tensor { dtype: t.dtype, data: Data::Float(x.iter().map(|x| x.abs()).collect()) },
        Data::Int(x) => Tensor { dtype: t.dtype, data: Data::Int(x.iter().map(|x| x.abs()).collect()) },
    };
    let inputs: Vec<Tensor> = inputs.iter().map(absolute).collect();
    let sums = eval(problem, &inputs.iter().collect::<Vec<_>>(), Rounding::Never).remove(0);
    let unit = f64::from(f32::EPSILON) / 2.0;
    let factors = match problem {
        // Both factors rounded to 11 bits.
        Problem::Contraction(c) if c.tf32 => 2.0 * f64::from(1u32 << 13),
        // The first factor rounded to 11 or 8 bits.
        Problem::Contraction(c) if c.given != c.dtype => f64::from(1u32 << if c.dtype == DType::F16 { 13 } else { 16 }),
        // Factors as sums of two parts of 11 bits each, small parts not multiplied with each other.
        Problem::Contraction(c) if c.dtype == DType::F32 => 12.0,
        _ => 0.0,
    };
    Some((sums, ((terms + 3) as f64 + factors) * unit))
}

fn compare(problem: &Problem, found: &[Vec<u8>], expected: &[Tensor], bounds: &Option<(Tensor, f64)>) -> Result<(), String> {
    let absolute = |at: usize| match (bounds, problem) {
        (Some((sums, unit)), _) => sums.f(at) * unit,
        // Scaled values and biases of up to 12 cancel: five roundings of that size.
        (None, Problem::Normalize(_)) => 12.0 * 5.0 * f64::from(f32::EPSILON) / 2.0,
        (None, Problem::Map(m)) if m.outputs.iter().all(|o| o.dtype == DType::F64) => 1e-14,
        _ => 1e-6,
    };
    for ((operand, bytes), expected) in problem.outputs().iter().zip(found).zip(expected) {
        let found = Tensor::from_bytes(operand.dtype, bytes);
        // One rounding of the output type, and a few of the arithmetic.
        let relative = match operand.dtype.bytes() {
            2 if operand.dtype == DType::BF16 => 8e-3,
            2 => 1e-3,
            8 if problem.inputs().iter().all(|o| o.dtype == DType::F64) => 1e-13,
            _ => 4e-6,
        };
        for at in operand.view.offsets() {
            let (x, y) = (found.f(at), expected.f(at));
            let close =
                x == y || x.is_nan() && y.is_nan() || operand.dtype.is_float() && (x - y).abs() <= relative * y.abs() + absolute(at);
            if !close {
                return Err(format!("element {at} is {x} instead of {y}"));
            }
        }
    }
    Ok(())
}

/// Assembles a kernel with the `ptxas` that `WPK_PTXAS` names, and fails on spills.
#[track_caller]
pub fn assemble(kernel: &Kernel, arch: &Arch) {
    let Ok(ptxas) = std::env::var("WPK_PTXAS") else {
        eprintln!("WPK_PTXAS names no ptxas: nothing is assembled");
        return;
    };
    let text = kernel.text(arch);
    let path = std::env::temp_dir().join(format!("wpk-{}-{:?}.ptx", std::process::id(), std::thread::current().id()));
    std::fs::write(&path, &text).expect("a temporary file");
    let target = format!("-arch={}", arch.target);
    let output = Command::new(ptxas).args([&target, "-v", "-o", "/dev/null"]).arg(&path).output();
    std::fs::remove_file(&path).expect("the file of before");
    let output = output.expect("ptxas runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {log}\n{text}", arch.target);
    assert!(!log.contains("bytes spill stores") || log.contains(" 0 bytes spill stores"), "{}: {log}", arch.target);
    // Products of warpgroups that wait for each other (C7508 to C7511 of ptxas are told as warnings or information).
    assert!(!log.contains("serialized") && !log.contains("setmaxnreg ignored"), "{}: {log}", arch.target);
}
