//! Random numbers: drawn once, when the model is compiled.

use wpk_build::Model;
use wpk_build::onnx::parse;
use wpk_rt::{Device, Weights};
use wpk_tests::text;

fn run(model: &str, input: Option<f32>) -> Vec<f64> {
    let compiled =
        Model::new("m.onnx").build_from(&parse(text::bytes(model)).expect("the model is read")).unwrap_or_else(|d| panic!("{d}"));
    let plan = &compiled.program.buckets[0].1;
    let given: Vec<Vec<u8>> = plan.inputs.iter().map(|p| input.unwrap_or(0.0).to_ne_bytes().repeat(p.shape.iter().product())).collect();
    let loaded = wpk_rt::Model::new(compiled.program.clone(), Weights::Owned(compiled.blob.to_bytes()), Device::Cpu).expect("it loads");
    let mut results: Vec<Vec<u8>> = plan.outputs.iter().map(|p| vec![0; p.bytes()]).collect();
    let slices: Vec<&[u8]> = given.iter().map(Vec::as_slice).collect();
    loaded.run(0, &slices, &mut results.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).expect("it runs");
    let found = wpk_kernels::Tensor::from_bytes(plan.outputs[0].dtype, &results[0]);
    (0..found.len()).map(|i| found.f(i)).collect()
}

/// The mean and the standard deviation of what a model gives.
#[track_caller]
fn check(model: &str, input: Option<f32>, (mean, deviation): (f64, f64)) {
    let found = run(model, input);
    let n = found.len() as f64;
    let own = found.iter().sum::<f64>() / n;
    let spread = (found.iter().map(|x| (x - own).powi(2)).sum::<f64>() / n).sqrt();
    // Five deviations of the mean, and of the deviation.
    let (room, wide) = (5.0 * deviation / n.sqrt(), 5.0 * deviation / n.sqrt());
    assert!((own - mean).abs() < room && (spread - deviation).abs() < wide, "{own} {spread}\n{model}");
    assert_eq!(run(model, input), found, "the same every time");
}

#[test]
fn distributions() {
    check("y = RandomNormal() shape=[100,100] mean=3.0 scale=2.0 seed=7.0\noutput y", None, (3.0, 2.0));
    check("y = RandomUniform() shape=[10000] low=-1.0 high=2.0\noutput y", None, (0.5, 3.0 / 12f64.sqrt()));
    check("input x f32 10000\nz = RandomNormalLike(x)\ny = Add(x, z)\noutput y", Some(1.0), (1.0, 1.0));
    check("input x f32 10000\nz = RandomUniformLike(x) seed=1.0\ny = Add(x, z)\noutput y", Some(0.0), (0.5, 1.0 / 12f64.sqrt()));
    check("input x f32 10000\ny = Bernoulli(x) seed=2.0\noutput y", Some(0.3), (0.3, 0.21f64.sqrt()));
}

#[test]
fn nodes_without_a_seed_draw_their_own() {
    let found = run("a = RandomNormal() shape=[100]\nb = RandomNormal() shape=[100]\ny = Sub(a, b)\noutput y", None);
    assert!(found.iter().all(|&x| x != 0.0), "{found:?}");
}
