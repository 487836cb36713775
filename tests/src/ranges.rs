//! What tests of dimensions given as ranges share: requests of every size, with padding that is not a number, beside plans of their own.

use crate::{emulated, text};
use wpk_build::onnx::parse;
use wpk_build::{Compiled, Model};
use wpk_plan::{DType, Plan};
use wpk_rt::{Device, Weights};

/// Compiles a model as it is configured.
pub fn compile(model: &str, configure: impl Fn(Model) -> Model) -> Result<Compiled, String> {
    let source = parse(text::bytes(model)).expect("the model is read");
    configure(Model::new("m.onnx")).build_from(&source).map_err(|d| d.to_string())
}

/// What was compiled, on the CPU.
pub fn load(compiled: &Compiled) -> wpk_rt::Model {
    wpk_rt::Model::new(compiled.program.clone(), Weights::Owned(compiled.blob.to_bytes()), Device::Cpu).expect("it loads")
}

/// Values of some type, the same for the same number.
pub fn values(dtype: DType, seed: u64, n: usize) -> Vec<u8> {
    let values = text::random(seed, n);
    match dtype {
        DType::F32 => values.iter().flat_map(|&v| (v as f32).to_ne_bytes()).collect(),
        DType::I64 => values.iter().flat_map(|&v| ((v * 4.0).abs() as i64).to_ne_bytes()).collect(),
        DType::Bool => values.iter().map(|&v| u8::from(v > 0.0)).collect(),
        other => panic!("{other}"),
    }
}

/// A request's elements in a tensor with room for more, `fill` elsewhere.
pub fn spread(bytes: &[u8], from: &[usize], to: &[usize], fill: &[u8]) -> Vec<u8> {
    let size = fill.len();
    let mut out = fill.repeat(to.iter().product());
    for i in 0..from.iter().product::<usize>() {
        let (mut rest, mut at, mut stride) = (i, 0, 1);
        for d in (0..from.len()).rev() {
            at += rest % from[d] * stride;
            rest /= from[d];
            stride *= to[d];
        }
        out[at * size..][..size].copy_from_slice(&bytes[i * size..][..size]);
    }
    out
}

/// Runs a plan and returns the bytes of its outputs.
pub fn run(model: &wpk_rt::Model, bucket: usize, plan: &Plan, inputs: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut results: Vec<Vec<u8>> = plan.outputs.iter().map(|p| vec![0x5a; p.bytes()]).collect();
    let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    model.run(bucket, &slices, &mut results.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).expect("it runs");
    results
}

/// Bytes as numbers.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|c| f32::from_ne_bytes(c.try_into().expect("four bytes"))).collect()
}

/// What is given to a plan for `n`: the tensors of a plan of that size alone, and behind them what is not a number.
pub fn padded(plan: &Plan, own: &Plan, given: &[Vec<u8>], n: usize) -> Vec<Vec<u8>> {
    let fill = |dtype: DType| match dtype {
        DType::F32 => f32::NAN.to_ne_bytes().to_vec(),
        DType::I64 => (-77i64).to_ne_bytes().to_vec(),
        _ => vec![1],
    };
    let ports = plan.given().iter().zip(own.inputs.iter().zip(given));
    let mut inputs: Vec<Vec<u8>> = ports.map(|(p, (o, bytes))| spread(bytes, &o.shape, &p.shape, &fill(p.dtype))).collect();
    inputs.extend(plan.inputs[plan.given().len()..].iter().map(|_| (n as i64).to_ne_bytes().to_vec()));
    inputs
}

/// Whether the outputs of a request are those that a plan of its size gives.
#[track_caller]
pub fn same(found: &[(Vec<usize>, Vec<u8>)], own: &Plan, expected: &[Vec<u8>], told: &str) {
    for ((port, expected), (shape, found)) in own.outputs.iter().zip(expected).zip(found) {
        assert_eq!(shape, &port.shape, "{told}");
        if port.dtype == DType::F32 {
            let close = floats(found).iter().zip(floats(expected)).all(|(f, e)| (f - e).abs() <= 1e-5 * (1.0 + e.abs()));
            assert!(close, "{:?}\n{:?}\n{told}", floats(found), floats(expected));
        } else {
            assert_eq!(found, expected, "{told}");
        }
    }
}

/// Runs every size of `n` from 1 to 7 in the plans of a range with padding that is not a number, and in plans of their own.
#[track_caller]
pub fn check(model: &str) {
    let flexible = compile(model, |m| m.range("n", 1..=7)).unwrap_or_else(|e| panic!("{e}\n{model}"));
    let on_gpu = compile(model, |m| m.range("n", 5..=7).gpu("sm_80")).unwrap_or_else(|e| panic!("{e}\n{model}"));
    assert_eq!(flexible.inflexible, Vec::<String>::new(), "{model}");
    let loaded = load(&flexible);
    for n in 1..=7 {
        let exact = compile(model, |m| m.dim("n", [n])).unwrap_or_else(|e| panic!("{e}\n{model}"));
        let own = &exact.program.buckets[0].1;
        let given: Vec<Vec<u8>> = own.inputs.iter().zip(1..).map(|(p, seed)| values(p.dtype, seed, p.shape.iter().product())).collect();
        let expected = run(&load(&exact), 0, own, &given);

        let buckets = &flexible.program.buckets;
        let (bucket, (_, plan)) = buckets.iter().enumerate().filter(|b| b.1.0[0] >= n).min_by_key(|b| b.1.0[0]).expect("a bucket");
        let found = run(&loaded, bucket, plan, &padded(plan, own, &given, n));
        let told = format!("n = {n}\n{model}\n{plan}");
        same(&plan.existing(&found, &[n]), own, &expected, &told);
        let request: Vec<(&[usize], &[u8])> = own.inputs.iter().zip(&given).map(|(p, b)| (p.shape.as_slice(), b.as_slice())).collect();
        same(&loaded.run_dynamic(&request).unwrap_or_else(|e| panic!("{e}\n{told}")), own, &expected, &told);
        if n == 5 {
            let plan = &on_gpu.program.gpus.first().unwrap_or_else(|| panic!("{:?}\n{model}", on_gpu.refused)).plans[0];
            let found = emulated::run(&on_gpu, &padded(plan, own, &given, n)).unwrap_or_else(|e| panic!("{e}\n{told}"));
            same(&plan.existing(&found, &[n]), own, &expected, &told);
        }
    }
}
