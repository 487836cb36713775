//! Products of bytes against the naive evaluator, on random problems: on the CPU, and on tensor cores in the emulator.
//!
//! `WPK_ISA=portable` and `WPK_ISA=avx2` run the same cases on other instruction sets.

use wpk_build::graph::evaluate;
use wpk_build::onnx::parse;
use wpk_build::{Model, Precision};
use wpk_kernels::{Rounding, Tensor};
use wpk_plan::DType;
use wpk_tests::beside::{Random, check};
use wpk_tests::text;

/// Products of bytes, whose sums are exact: every height and width of tiles, zero points, groups, one channel each.
#[test]
fn products_of_bytes() {
    for seed in 0..80 {
        let r = &mut Random(seed);
        let (m, n, k) = (r.within(1, 40), r.within(1, 150), r.within(1, 200));
        let zero = [0, -128, 7][r.below(3)];
        check(
            &format!("input x i8 2x{m}x{k}\nconst z i8 - = {zero}\nconst w i8 {k}x{n} random\ny = MatMulInteger(x, w, z)\noutput y"),
            seed,
        );
        let groups = [1, 1, 2, 9][r.below(4)];
        let (ci, co) = (groups * r.within(1, 20), groups * r.within(1, 30));
        let (h, w, stride, pad) = (r.within(3, 12), r.within(3, 12), r.within(1, 2), r.below(3));
        let window = format!("group={groups} strides=[{stride},1] pads=[{pad},1,1,{pad}]");
        let per_group = ci / groups;
        check(
            &format!(
                "input i i8 1x{h}x{w}x{ci}\nx = Transpose(i) perm=[0,3,1,2]\nconst z i8 - = {zero}\nconst w i8 {co}x{per_group}x3x2 random
                y = ConvInteger(x, w, z) {window}\noutput y"
            ),
            seed,
        );
        // A depthwise one, quantized again.
        check(
            &format!(
                "input i i8 1x{h}x{w}x{co}\nx = Transpose(i) perm=[0,3,1,2]\nconst w i8 {co}x1x3x3 random\nconst z i8 - = {zero}
                const s f32 - = 0.05\nconst o i8 - = 3\nconst o0 i8 - = 0\nconst b i32 {co} random
                c = QLinearConv(x, s, z, w, s, o0, s, o, b) group={co} strides=[{stride},1] pads=[{pad},1,1,1]
                y = Transpose(c) perm=[0,2,3,1]\noutput y"
            ),
            seed,
        );
    }
}

/// Quantized models as tools write them: between products every tensor is quantized, residuals too.
#[test]
fn quantized_convolutions() {
    for seed in 0..40 {
        let r = &mut Random(seed);
        let (c, h, w) = (r.within(1, 40), r.within(3, 10), r.within(3, 10));
        let (kind, zero) = if r.below(2) == 0 { ("u8", 131) } else { ("i8", -9) };
        let weights = format!("const w i8 {c}x{c}x3x3 random\nconst sw f32 {c} random\nconst zw i8 {c} = {}", "0 ".repeat(c));
        check(
            &format!(
                "opset 19\ninput x f32 1x{c}x{h}x{w}\n{weights}\nconst s f32 - = 0.0078\nconst z {kind} - = {zero}\nconst t f32 - = 0.31
                q = QuantizeLinear(x, s, z)\nd = DequantizeLinear(q, s, z)\nf = DequantizeLinear(w, sw, zw) axis=0
                c = Conv(d, f) pads=[1,1,1,1]\nr = Relu(c)\nqc = QuantizeLinear(r, t, z)\ndc = DequantizeLinear(qc, t, z)
                a = Add(dc, d)\ny = QuantizeLinear(a, t, z)\noutput y
                p = MaxPool(d) kernel_shape=[2,3] pads=[1,1,0,1]\nv = QuantizeLinear(p, s, z)\noutput v"
            ),
            seed,
        );
    }
}

/// Compiles a quantized model for a GPU, whose plan multiplies so many times by bytes, and compares with the evaluation in the
/// types of the model: a level more or less where a sum lies between two.
#[track_caller]
fn on_tensor_cores(model: &str, products: usize, seed: u64) {
    let source = parse(text::bytes(model)).expect("the model is read");
    // So small a model may be estimated to be faster in floats.
    let model_on = Model::new("m.onnx").gpu("sm_80").cover("fused, channels last");
    let compiled = model_on.build_from(&source).unwrap_or_else(|d| panic!("{d}\n{model}"));
    let plan = &compiled.program.gpus.first().unwrap_or_else(|| panic!("{:?}\n{model}", compiled.refused)).plans[0];
    let bytes = |s: &&wpk_plan::Step| matches!(s.kernel.problem(), wpk_plan::Problem::Contraction(c) if c.dtype == DType::I8);
    let all: Vec<String> = plan.body.steps().iter().map(ToString::to_string).collect();
    assert_eq!(plan.body.steps().iter().filter(|s| bytes(s)).count(), products, "{model}\n{}", all.join("\n"));
    let inputs: Vec<Tensor> = plan
        .inputs
        .iter()
        .map(|p| Tensor::floats(p.dtype, text::random(seed, p.shape.iter().product()).iter().map(|&v| f64::from(v as f32)).collect()))
        .collect();
    let given: Vec<Vec<u8>> = inputs.iter().map(Tensor::to_bytes).collect();
    let results = wpk_tests::emulated::run(&compiled, &given).unwrap_or_else(|e| panic!("{e}\n{model}"));
    for ((port, bytes), expected) in plan.outputs.iter().zip(&results).zip(evaluate(&compiled.graphs[0].0, &inputs, Rounding::ToType)) {
        let found = Tensor::from_bytes(port.dtype, bytes);
        let apart = (0..expected.len()).map(|i| (found.f(i) - expected.f(i)).abs()).fold(0.0, f64::max);
        let several = (0..expected.len()).filter(|&i| (found.f(i) - expected.f(i)).abs() > 1e-4).count();
        assert!(apart <= 1.0 && several * 50 <= expected.len(), "{}: {apart}, {several} of {}\n{model}\n{plan}", port.name, expected.len());
    }
}

#[test]
fn quantized_products_on_tensor_cores() {
    for seed in 0..12 {
        let r = &mut Random(seed);
        // An odd number of pixels, whose mean of levels lies between no two of them.
        let (c, h, w) = (16 * r.within(1, 3), 2 * r.within(1, 3) + 1, 2 * r.within(1, 3) + 1);
        let (kind, zero) = if r.below(2) == 0 { ("u8", 131) } else { ("i8", -9) };
        on_tensor_cores(
            &format!(
                "opset 19\ninput x f32 1x{c}x{h}x{w}\nconst w i8 {c}x{c}x3x3 random\nconst sw f32 {c} random\nconst zw i8 {c} = {}
                const v i8 5x{c} random\nconst sv f32 - = 0.01\nconst zv i8 - = 0
                const s f32 - = 0.0078\nconst z {kind} - = {zero}\nconst t f32 - = 0.31\n
                q = QuantizeLinear(x, s, z)\nd = DequantizeLinear(q, s, z)\nf = DequantizeLinear(w, sw, zw) axis=0
                c = Conv(d, f) pads=[1,1,1,1]\nr = Relu(c)\nqc = QuantizeLinear(r, t, z)\ndc = DequantizeLinear(qc, t, z)
                a = Add(dc, d)\ny = QuantizeLinear(a, t, z)\noutput y
                e = DequantizeLinear(y, t, z)\ng = GlobalAveragePool(e)\nl = Flatten(g)\nqg = QuantizeLinear(l, t, z)\ndg = DequantizeLinear(qg, t, z)
                fv = DequantizeLinear(v, sv, zv)\ntv = Transpose(fv) perm=[1,0]\nm = MatMul(dg, tv)\noutput m",
                "0 ".repeat(c)
            ),
            2,
            seed,
        );
    }
}

/// Products of numbers by weights that were levels: the plan holds the levels, and gives what it gives with the numbers.
#[test]
fn weights_as_levels() {
    for seed in 0..40 {
        let r = &mut Random(seed);
        let (m, n, k) = (r.within(1, 140), r.within(1, 90), [r.within(1, 90), r.within(900, 1300)][r.below(2)]);
        let (model, layout) = match r.below(3) {
            // A scale for each column.
            0 => {
                let scales = format!("const s f32 {n} random\nconst z i8 {n} = {}", "0 ".repeat(n));
                (
                    format!(
                        "input x f32 {m}x{k}\nconst w i8 {k}x{n} random\n{scales}\nv = DequantizeLinear(w, s, z) axis=1\ny = MatMul(x, v)\noutput y"
                    ),
                    "bytes16",
                )
            }
            // One scale, weights given by column.
            1 => (
                format!(
                    "input x f32 {m}x{k}\nconst w i8 {n}x{k} random\nconst s f32 - = 0.02\nconst z i8 - = 0\nv = DequantizeLinear(w, s, z)\nt = Transpose(v) perm=[1,0]\ny = MatMul(x, t)\noutput y"
                ),
                "bytes16",
            ),
            _ => {
                let (c, h) = (k.min(90), m.min(9));
                let scales = format!("const s f32 {n} random\nconst z i8 {n} = {}", "0 ".repeat(n));
                (
                    format!(
                        "input x f32 1x{c}x{h}x3\nconst w i8 {n}x{c}x1x1 random\n{scales}\nv = DequantizeLinear(w, s, z) axis=0\nc = Conv(x, v)\ny = Relu(c)\noutput y"
                    ),
                    "bytes16",
                )
            }
        };
        check(&model, seed);
        let compiled =
            Model::new("m.onnx").build_from(&parse(text::bytes(&model)).expect("the model is read")).unwrap_or_else(|d| panic!("{d}"));
        // Of a single column other scales than one may be lost in a reshape.
        assert!(n == 1 || compiled.program.sections.iter().any(|s| s.layout.to_string() == layout), "{model}\n{}", compiled.program);
    }
}

/// Weights of few bits stay what they are in plans for CPUs and, for a few rows, for GPUs: bytes, nibbles, and floating numbers of eight and
/// four bits.
#[test]
fn weights_of_few_bits() {
    let kinds = [("i8", "bytes16"), ("i4", "nibbles16"), ("f8e4m3", "e4m3x16"), ("f8e5m2", "e5m2x16"), ("f4e2m1", "e2m1x16")];
    for (seed, (kind, layout)) in (0..4).flat_map(|i| kinds.map(|k| (i, k))) {
        let r = &mut Random(seed + layout.len() as u64);
        let (m, n, k) = (r.within(1, 16), r.within(2, 50), 4 * r.within(1, 60));
        let by_column = format!("const w {kind} {k}x{n} random\nconst s f32 {n} random\nv = DequantizeLinear(w, s) axis=1");
        let by_row = format!(
            "const w {kind} {n}x{k} random\nconst s f32 {n} random\nt = DequantizeLinear(w, s) axis=0\nv = Transpose(t) perm=[1,0]"
        );
        let weights = if r.below(2) == 0 { by_column } else { by_row };
        let model = format!("opset 23\ninput x f32 {m}x{k}\n{weights}\nconst b f32 {n} random\np = MatMul(x, v)\ny = Add(p, b)\noutput y");
        check(&model, seed);
        for (precision, limit) in [(Precision::Fp32, 2e-6), (Precision::Tf32, 2e-6), (Precision::Fp16, 1e-3), (Precision::Bf16, 8e-3)] {
            on_gpu(&model, layout, (precision, limit), seed);
        }
    }
}

/// Compiles a model whose only product is by weights in a layout on both devices, and compares its GPU plan with the float64 evaluation.
#[track_caller]
fn on_gpu(model: &str, layout: &str, (precision, limit): (Precision, f64), seed: u64) {
    let source = parse(text::bytes(model)).expect("the model is read");
    let compiled = Model::new("m.onnx").gpu("sm_80").precision(precision).build_from(&source).unwrap_or_else(|d| panic!("{d}\n{model}"));
    let plan = &compiled.program.gpus.first().unwrap_or_else(|| panic!("{:?}\n{model}", compiled.refused)).plans[0];
    for plan in [plan, &compiled.program.buckets[0].1] {
        let products = plan.body.steps().into_iter().filter(|s| s.kernel.problem().family() == "contraction");
        assert_eq!(products.map(|s| s.kernel.layout().to_string()).collect::<Vec<_>>(), [layout], "{model}\n{plan}");
    }
    let values = text::random(seed, plan.inputs[0].shape.iter().product());
    let input = Tensor::floats(DType::F32, values.iter().map(|&v| f64::from(v as f32)).collect());
    let results = wpk_tests::emulated::run(&compiled, &[input.to_bytes()]).unwrap_or_else(|e| panic!("{e}\n{model}"));
    let expected = evaluate(&compiled.graphs[0].0, &[input], Rounding::Never).remove(0);
    let found = Tensor::from_bytes(DType::F32, &results[0]);
    let norm = |f: &dyn Fn(usize) -> f64| (0..expected.len()).map(|i| f(i).powi(2)).sum::<f64>().sqrt();
    let error = norm(&|i| found.f(i) - expected.f(i)) / norm(&|i| expected.f(i));
    assert!(error <= limit, "{precision:?} by {layout}: {error:.1e}\n{model}\n{plan}");
}

/// What is subtracted from bytes in `f32` may lie between two levels: such weights are numbers, not levels.
#[test]
fn weights_around_no_level() {
    use wpk_plan::{Binary, ScalarFn};
    let bytes = wpk_build::graph::Literal::ints(DType::U8, &[2], &[7, 8]);
    let known = |zero: f64, subtracted: DType| {
        let mut f = ScalarFn::default();
        let x = f.input(0, DType::U8);
        let zero = f.constant(zero, subtracted);
        let (scale, x) = (f.constant(0.5, DType::F32), f.cast(x, subtracted));
        let level = f.binary(Binary::Sub, x, zero);
        let level = f.cast(level, DType::F32);
        f.outputs = vec![f.binary(Binary::Mul, level, scale)];
        wpk_build::quantized::of_constants(&f, &[&bytes], &[2]).map(|q| q.levels.to_ints())
    };
    assert_eq!(known(7.0, DType::I32), Some(vec![0, 1]));
    assert_eq!(known(7.5, DType::F32), None);
}
