//! GPU plans executed in the emulator, step by step, against the float64 evaluator.

use wpk_build::graph::evaluate;
use wpk_build::onnx::parse;
use wpk_build::{Compiled, Model, Precision};
use wpk_kernels::{Rounding, Tensor};
use wpk_tests::{emulated, text};

fn compile(model: &str, precision: Precision) -> Compiled {
    let source = parse(text::bytes(model)).expect("the model is read");
    Model::new("m.onnx").gpu("sm_80").precision(precision).build_from(&source).unwrap_or_else(|d| panic!("{d}"))
}

/// The results of the GPU plan, and what they should be.
fn run(compiled: &Compiled) -> (Vec<Tensor>, Vec<Tensor>) {
    let [gpu] = &compiled.program.gpus[..] else { panic!("no GPU plan: {:?}", compiled.refused) };
    let plan = &gpu.plans[0];
    let number = |i: usize| ((i * 2_654_435_761) % 1000) as f64 / 500.0 - 1.0;
    let one = |p: &wpk_plan::Port| {
        let n = p.shape.iter().product();
        let values = (0..n).map(number).collect();
        if p.dtype.is_float() { Tensor::floats(p.dtype, values) } else { Tensor::ints(p.dtype, (0..n as i64).map(|i| i % 3).collect()) }
    };
    let inputs: Vec<Tensor> = plan.inputs.iter().map(one).collect();
    let bytes: Vec<Vec<u8>> = inputs.iter().map(Tensor::to_bytes).collect();
    let results = emulated::run(compiled, &bytes).unwrap_or_else(|e| panic!("{e}"));
    let found = plan.outputs.iter().zip(&results).map(|(p, r)| Tensor::from_bytes(p.dtype, r)).collect();
    (found, evaluate(&compiled.graphs[0].0, &inputs, Rounding::Never))
}

/// Runs a model in every precision, each within its relative error in the 2-norm; returns the fp16 plan's text.
#[track_caller]
fn check(model: &str) -> String {
    let limits = [(Precision::Fp32, 1e-6), (Precision::Tf32, 2e-3), (Precision::Bf16, 3e-2), (Precision::Fp16, 5e-3)];
    let mut last = String::new();
    for (precision, limit) in limits {
        let compiled = compile(model, precision);
        let (found, expected) = run(&compiled);
        for (x, y) in found.iter().zip(&expected) {
            let square = |f: &dyn Fn(usize) -> f64| (0..y.len()).map(|i| f(i) * f(i)).sum::<f64>();
            let error = (square(&|i| x.f(i) - y.f(i)) / square(&|i| y.f(i))).sqrt();
            assert!(error < limit, "{precision:?}: relative error {error:.2e}\n{}", compiled.program.gpus[0].plans[0]);
        }
        last = compiled.program.gpus[0].plans[0].to_string();
    }
    last
}

#[test]
fn a_convolutional_block() {
    let plan = check(
        "input x f32 1x3x16x16
         const w f32 16x3x3x3 random
         const b f32 16 random
         const d f32 16x1x3x3 random
         const v f32 24x16x1x1 random
         a = Conv(x, w, b) pads=[1,1,1,1] strides=[2,2]
         r = Relu(a)
         c = Conv(r, d) pads=[1,1,1,1] group=16
         s = Add(c, r)
         e = Conv(s, v)
         m = MaxPool(e) kernel_shape=[2,2] strides=[2,2]
         p = GlobalAveragePool(m)
         y = Flatten(p)
         output y",
    );
    assert!(plan.contains("[direct "), "{plan}");
}

#[test]
fn a_transposed_convolution() {
    check(
        "input x f32 1x8x5x5
         const w f32 8x16x4x4 random
         const b f32 16 random
         y = ConvTranspose(x, w, b) strides=[2,2] pads=[1,1,1,1]
         output y",
    );
}

#[test]
fn an_encoder_layer() {
    let plan = check(
        "input ids i64 1x24
         const table f32 11x32 random
         const wq f32 32x32 random
         const wk f32 32x32 random
         const wv f32 32x32 random
         const bq f32 32 random
         const bk f32 32 random
         const bv f32 32 random
         const heads i64 4 = 1 24 2 16
         const flat i64 3 = 1 24 32
         const scale f32 - = 0.25
         const g f32 32 random
         const h f32 32 random
         x = Gather(table, ids)
         qm = MatMul(x, wq)
         qb = Add(qm, bq)
         qr = Reshape(qb, heads)
         q = Transpose(qr) perm=[0,2,1,3]
         km = MatMul(x, wk)
         kb = Add(km, bk)
         kr = Reshape(kb, heads)
         k = Transpose(kr) perm=[0,2,3,1]
         vm = MatMul(x, wv)
         vb = Add(vm, bv)
         vr = Reshape(vb, heads)
         v = Transpose(vr) perm=[0,2,1,3]
         s = MatMul(q, k)
         t = Mul(s, scale)
         p = Softmax(t) axis=-1
         o = MatMul(p, v)
         ot = Transpose(o) perm=[0,2,1,3]
         of = Reshape(ot, flat)
         r = Add(of, x)
         y = LayerNormalization(r, g, h) axis=-1
         output y",
    );
    // Queries, keys and values are one product.
    assert_eq!((plan.matches("contraction").count(), plan.matches("attention").count()), (1, 1), "{plan}");
}

#[test]
fn phases_of_transposed_convolutions() {
    for (kernel, strides, dilations, pads) in [(3, 2, 1, 1), (4, 2, 1, 1), (5, 3, 1, 0), (3, 2, 2, 2), (2, 2, 1, 0)] {
        let model = format!(
            "input x f32 1x4x5x6
             const w f32 4x8x{kernel}x{kernel} random
             y = ConvTranspose(x, w) strides=[{strides},{strides}] dilations=[{dilations},{dilations}] pads=[{pads},{pads},{pads},{pads}]
             output y"
        );
        check(&model);
    }
    // With taps enough for every phase nothing is divided.
    let compiled = compile(
        "input x f32 1x8x5x5\nconst w f32 8x16x4x4 random\ny = ConvTranspose(x, w) strides=[2,2] pads=[1,1,1,1]\noutput y",
        Precision::Fp16,
    );
    let plan = &compiled.program.gpus[0].plans[0];
    let divided = |s: &&&wpk_plan::Step| matches!(s.kernel.problem(), wpk_plan::Problem::Contraction(c) if c.a.dims.iter().any(|d| d.index.divisor > 1));
    let contractions = plan.body.steps().iter().filter(|s| s.kernel.problem().family() == "contraction").count();
    assert_eq!((contractions, plan.body.steps().iter().filter(divided).count()), (4, 0), "{plan}");
}

/// Images of three channels are rounded and read where they lie, without a step before; also by kernels that know nothing of them.
#[test]
fn images_of_few_channels() {
    let model = "input x f32 2x3x13x12\nconst w f32 8x3x5x4 random\ny = Conv(x, w) strides=[2,2] pads=[2,1,2,2]\noutput y";
    let source = parse(text::bytes(model)).expect("the model is read");
    for (arch, precision, keep, first, family) in [
        ("sm_80", Precision::Fp16, "", "contraction", "packed"),
        ("sm_90a", Precision::Bf16, "", "contraction", "packed"),
        ("sm_75", Precision::Fp16, "", "map", "simt"),
        ("sm_80", Precision::Fp16, "*", "contraction", "mma"),
    ] {
        let built = Model::new("m.onnx").gpu(arch).precision(precision).keep_fp32(keep).build_from(&source);
        let compiled = built.unwrap_or_else(|d| panic!("{d}"));
        let plan = compiled.program.gpus[0].plans[0].to_string();
        let (found, expected) = run(&compiled);
        let square = |f: &dyn Fn(usize) -> f64| (0..expected[0].len()).map(|i| f(i) * f(i)).sum::<f64>();
        let error = (square(&|i| found[0].f(i) - expected[0].f(i)) / square(&|i| expected[0].f(i))).sqrt();
        assert!(error < if precision == Precision::Bf16 { 1e-2 } else { 1e-3 }, "{error:.2e}\n{plan}");
        let steps = compiled.program.gpus[0].plans[0].body.steps();
        assert_eq!(steps[0].kernel.problem().family(), first, "{plan}");
        assert!(plan.contains(&format!("[{family} ")), "{plan}");
    }
}

#[test]
fn images_of_bytes() {
    let model = "input x f32 1x3x6x6\nconst w f32 8x3x3x3 random\ny = Conv(x, w)\noutput y";
    let source = parse(text::bytes(model)).expect("the model is read");
    let built = |m: Model| m.gpu("sm_80").precision(Precision::Fp16).build_from(&source);
    let compiled = built(Model::new("m.onnx").image("x", &[0.5, 0.4, 0.3], &[0.2, 0.25, 0.3])).unwrap_or_else(|d| panic!("{d}"));
    let plan = &compiled.program.gpus[0].plans[0];
    assert_eq!((plan.inputs[0].dtype, plan.inputs[0].shape.as_slice()), (wpk_plan::DType::U8, &[1, 6, 6, 3][..]));
    let (found, expected) = run(&compiled);
    let worst = (0..expected[0].len()).map(|i| (found[0].f(i) - expected[0].f(i)).abs()).fold(0.0, f64::max);
    assert!(worst < 2e-2, "{worst}\n{plan}");
    let error = built(Model::new("m.onnx").image("x", &[0.5], &[0.2])).err().expect("an error").to_string();
    assert!(error.contains("input \"x\": f32[1, 3, 6, 6] does not take images of 1 channels"), "{error}");
}

#[test]
fn numbers_of_8_bits_within_a_function() {
    let model = |kind: i32| {
        format!(
            "opset 20\ninput x f32 16\nconst s f32 1 = 0.5\nq = QuantizeLinear(x, s) output_dtype={kind}\ny = DequantizeLinear(q, s)\noutput y"
        )
    };
    for kind in [17, 18, 19, 20] {
        let (found, expected) = run(&compile(&model(kind), Precision::Fp32));
        assert_eq!(found[0].data, expected[0].data);
    }
}
