//! A model's CPU plan beside the float64 evaluation of its graph.

use crate::text;
use wpk_build::graph::evaluate;
use wpk_build::onnx::parse;
use wpk_build::{Model, Precision};
use wpk_kernels::{Data, Rounding, Tensor};
use wpk_plan::DType;
use wpk_rt::{Device, Weights};

/// Compiles a model, runs it on random inputs, and compares with the float64 evaluation of the imported graph.
#[track_caller]
pub fn check(model: &str, seed: u64) {
    check_to(2e-6, Precision::Fp32, model, seed);
}

/// The same in an arithmetic, with the largest error of an `f32` result in the 2-norm.
#[track_caller]
pub fn check_to(limit: f64, precision: Precision, model: &str, seed: u64) {
    let source = parse(text::bytes(model)).expect("the model is read");
    let compiled = Model::new("m.onnx").cpu_precision(precision).build_from(&source).unwrap_or_else(|d| panic!("{d}\n{model}"));
    let plan = &compiled.program.buckets[0].1;
    let inputs: Vec<Tensor> = plan
        .inputs
        .iter()
        .enumerate()
        .map(|(i, p)| {
            let values = text::random(seed + i as u64, p.shape.iter().product());
            // The value that the element type holds is what both sides compute with.
            if p.dtype.is_float() {
                Tensor::floats(p.dtype, values.iter().map(|&v| f64::from(v as f32)).collect())
            } else {
                Tensor::ints(p.dtype, values.iter().map(|v| (v * 5.0) as i64).collect())
            }
        })
        .collect();
    let loaded = wpk_rt::Model::new(compiled.program.clone(), Weights::Owned(compiled.blob.to_bytes()), Device::Cpu)
        .unwrap_or_else(|e| panic!("{e}\n{model}"));
    let bytes: Vec<Vec<u8>> = inputs.iter().map(Tensor::to_bytes).collect();
    let mut results: Vec<Vec<u8>> = plan.outputs.iter().map(|p| vec![0xff; p.bytes()]).collect();
    let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    loaded.run(0, &slices, &mut results.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{e}"));
    for ((port, bytes), expected) in plan.outputs.iter().zip(&results).zip(evaluate(&compiled.graphs[0].0, &inputs, Rounding::Never)) {
        let found = Tensor::from_bytes(port.dtype, bytes);
        let norm = (0..expected.len()).map(|i| expected.f(i).powi(2)).sum::<f64>().sqrt().max(1e-6);
        let error = (0..expected.len()).map(|i| (found.f(i) - expected.f(i)).powi(2)).sum::<f64>().sqrt() / norm;
        let limit = match (&expected.data, port.dtype) {
            (Data::Int(_), _) => 0.0,
            (_, DType::F64) => 1e-12,
            (_, DType::F16 | DType::BF16) => 1e-2,
            _ => limit,
        };
        assert!(
            found.len() == expected.len() && error <= limit,
            "output {} has error {error:.1e}\n{model}\n{}",
            port.name,
            compiled.program
        );
    }
}

/// Small random numbers.
pub struct Random(pub u64);

impl Random {
    /// Below a number.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
    /// Between two numbers, both included.
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }
    /// One of a list.
    pub fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}
