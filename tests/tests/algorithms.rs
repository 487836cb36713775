//! The error of each algorithm for convolutions on the CPU, against the float64 evaluation, in the 2-norm; `--nocapture` prints them.

use wpk_build::graph::evaluate;
use wpk_build::onnx::parse;
use wpk_build::{Model, Precision};
use wpk_kernels::{Rounding, Tensor};
use wpk_plan::{Blocking, CpuSchedule, CpuSchedules, CpuStep, DType, Filtering, Program};
use wpk_rt::{Device, Weights};
use wpk_tests::text;

/// The error of a convolution of 64 to 64 channels on 20 by 20 pixels, by a schedule where there is one.
fn error(taps: [usize; 2], precision: Precision, schedule: Option<CpuSchedule>) -> f64 {
    let [tall, wide] = taps;
    let model = format!(
        "input i f32 1x20x20x64
        x = Transpose(i) perm=[0,3,1,2]
        const w f32 64x64x{tall}x{wide} random
        c = Conv(x, w) pads=[{0},{1},{0},{1}]
        y = Transpose(c) perm=[0,2,3,1]
        output y",
        tall / 2,
        wide / 2
    );
    let source = parse(text::bytes(&model)).expect("the model is read");
    let compiled = Model::new("m.onnx").cpu_precision(precision).build_from(&source).unwrap_or_else(|d| panic!("{d}"));
    let plan = &compiled.program.buckets[0].1;
    let step = plan.body.steps().iter().position(|s| s.kernel.problem().family() == "contraction").expect("a product") as u32;
    let steps = schedule.into_iter().map(|schedule| CpuStep { bucket: 0, step, schedule }).collect();
    let (device, threads) = (wpk_rt::trial::identity().to_owned(), wpk_rt::trial::threads());
    let program = Program { cpus: vec![CpuSchedules { device, threads, steps }], ..compiled.program.clone() };
    let values = text::random(3, 20 * 20 * 64).iter().map(|&v| f64::from(v as f32)).collect();
    let input = Tensor::floats(DType::F32, values);
    let mut result = vec![0; plan.outputs[0].bytes()];
    let loaded = wpk_rt::Model::new(program, Weights::Owned(compiled.blob.to_bytes()), Device::Cpu).unwrap_or_else(|e| panic!("{e}"));
    loaded.run(0, &[&input.to_bytes()], &mut [&mut result]).unwrap_or_else(|e| panic!("{e}"));
    let (found, expected) = (Tensor::from_bytes(DType::F32, &result), evaluate(&compiled.graphs[0].0, &[input], Rounding::Never).remove(0));
    let square = |f: &dyn Fn(usize) -> f64| (0..expected.len()).map(|i| f(i).powi(2)).sum::<f64>();
    (square(&|i| found.f(i) - expected.f(i)) / square(&|i| expected.f(i))).sqrt()
}

#[test]
fn errors_are_within_what_is_stated() {
    let product = Some(CpuSchedule::Product(Blocking { cut: 8192, chunk: 48, panels: 4 }));
    let filtering = |tile| Some(CpuSchedule::Winograd(Filtering { tile, kept: 512 }));
    let (square, line) = ([3, 3], [1, 3]);
    // F(2, 3) adds nothing but differences and sums, F(4, 3) multiplies by up to 8 and F(6, 3) by up to 32.
    let cases = [
        ("sum of products", square, Precision::Fp32, product, 1e-6),
        ("F(2x2, 3x3)", square, Precision::Fp32, filtering(2), 5e-7),
        ("F(4x4, 3x3)", square, Precision::Fp32, filtering(4), 2e-6),
        ("F(6x6, 3x3)", square, Precision::Fp32, filtering(6), 5e-6),
        ("F(2, 3)", line, Precision::Fp32, filtering(2), 5e-7),
        ("F(4, 3)", line, Precision::Fp32, filtering(4), 1e-6),
        ("pairs of bfloat16", line, Precision::Bf16, None, 5e-3),
    ];
    for (name, taps, precision, schedule, limit) in cases {
        let error = error(taps, precision, schedule);
        println!("{name}: {error:.2e} (at most {limit:.0e})");
        assert!(error <= limit && error > 0.0, "{name}: {error:.2e}, stated are {limit:.0e}");
    }
}
