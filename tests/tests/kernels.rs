//! CPU kernels against the naive evaluator, on random problems: every step of small random models.
//!
//! `WPK_ISA=portable` and `WPK_ISA=avx2` run the same cases on other instruction sets.

use wpk_build::Precision;
use wpk_build::onnx::parse;
use wpk_tests::beside::{Random, check, check_to};
use wpk_tests::text;

/// Two roundings to 8 bits by product, in either direction.
const BFLOAT16: f64 = 5e-3;

/// Products of a few rows by weights in binary16, and of more by weights as they are.
#[test]
fn products_by_weights_in_binary16() {
    for seed in 0..40 {
        let r = &mut Random(seed);
        let (m, n, k) = (r.within(1, 40), r.within(1, 150), r.within(1, 1400));
        let model =
            format!("input x f32 {m}x{k}\nconst w f32 {k}x{n} random\nconst b f32 {n} random\np = MatMul(x, w)\ny = Add(p, b)\noutput y");
        check_to(2e-3, Precision::Fp16, &model, seed);
        let compiled = wpk_build::Model::new("m.onnx").cpu_precision(Precision::Fp16);
        let compiled = compiled.build_from(&parse(text::bytes(&model)).expect("the model is read")).unwrap_or_else(|d| panic!("{d}"));
        let halves = compiled.program.sections.iter().any(|s| s.layout == wpk_plan::WeightLayout::Halves16);
        assert_eq!(halves, m <= 32, "{}", compiled.program);
    }
}

/// Products by weights in pairs of bfloat16, of every height and width of tiles.
#[test]
fn products_in_bfloat16() {
    for seed in 0..60 {
        let r = &mut Random(seed);
        let (m, n, k) = (r.within(1, 40), r.within(1, 150), 2 * r.within(1, 100));
        check_to(
            BFLOAT16,
            Precision::Bf16,
            &format!("input x f32 {m}x{k}\nconst w f32 {k}x{n} random\nconst b f32 {n} random\np = MatMul(x, w)\ny = Add(p, b)\noutput y"),
            seed,
        );
        let (ci, co, h, w) = (2 * r.within(1, 20), r.within(1, 70), r.within(3, 12), r.within(3, 12));
        check_to(
            BFLOAT16,
            Precision::Bf16,
            &format!(
                "input i f32 1x{h}x{w}x{ci}\nx = Transpose(i) perm=[0,3,1,2]\nconst w f32 {co}x{ci}x3x3 random\nc = Conv(x, w) pads=[1,1,1,1]
                y = Transpose(c) perm=[0,2,3,1]\noutput y"
            ),
            seed,
        );
    }
}

#[test]
fn matrix_products() {
    for seed in 0..120 {
        let r = &mut Random(seed);
        let size = |r: &mut Random| [1, 2, 3, 5, 8, 15, 16, 17, 31, 48, 64, 65, 100][r.below(13)];
        let (m, k, n, b) = (size(r), size(r), size(r), r.within(1, 3));
        let constant = r.below(2) == 0;
        let second = |shape: String| if constant { format!("const y f32 {shape} random") } else { format!("input y f32 {shape}") };
        check(&format!("input x f32 {m}x{k}\n{}\nz = MatMul(x, y)\noutput z", second(format!("{k}x{n}"))), seed);
        check(&format!("input x f32 {b}x{m}x{k}\n{}\nz = MatMul(x, y)\noutput z", second(format!("{k}x{n}"))), seed);
        check(&format!("input x f32 {b}x{m}x{k}\n{}\nz = MatMul(x, y)\noutput z", second(format!("{b}x{k}x{n}"))), seed);
        let (ta, tb) = (r.below(2), r.below(2));
        let shape = |t: usize, a: usize, b: usize| if t == 1 { format!("{b}x{a}") } else { format!("{a}x{b}") };
        check(
            &format!(
                "input x f32 {}\n{}\ninput c f32 {n}\nz = Gemm(x, y, c) transA={ta} transB={tb} alpha=0.5\noutput z",
                shape(ta, m, k),
                second(shape(tb, k, n))
            ),
            seed,
        );
    }
    check("input x f32 5x2100\nconst y f32 2100x70 random\nz = MatMul(x, y)\noutput z", 1);
    check("input x f64 5x6\ninput y f64 6x7\nz = MatMul(x, y)\noutput z", 1);
    check("input x i32 5x6\ninput y i32 6x7\nz = MatMul(x, y)\noutput z", 1);
}

#[test]
fn attention() {
    for seed in 0..30 {
        let r = &mut Random(seed);
        let (h, s, t, d) = (r.within(1, 3), r.within(1, 20), r.within(1, 40), r.within(1, 24));
        check(
            &format!(
                "input q f32 1x{s}x{h}x{d}
            input k f32 1x{t}x{h}x{d}
            input v f32 1x{t}x{h}x{d}
            input mask f32 1x1x{s}x{t}
            qt = Transpose(q) perm=[0,2,1,3]
            kt = Transpose(k) perm=[0,2,3,1]
            vt = Transpose(v) perm=[0,2,1,3]
            p = MatMul(qt, kt)
            const scale f32 - = 0.3
            c = Mul(p, scale)
            m = Add(c, mask)
            a = Softmax(m) axis=-1
            o = MatMul(a, vt)
            ot = Transpose(o) perm=[0,2,1,3]
            const to i64 2 = {s} -1
            y = Reshape(ot, to)
            output y"
            ),
            seed,
        );
    }
}

#[test]
fn rows_and_reductions() {
    for seed in 0..60 {
        let r = &mut Random(seed);
        let (a, b, c) = (r.within(1, 6), r.within(1, 40), r.within(1, 70));
        let kind =
            r.pick(&["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"]);
        let axes = r.pick(&["0", "1", "2", "0 1", "1 2", "0 2"]);
        let n = axes.split(' ').count();
        check(&format!("opset 18\ninput x f32 {a}x{b}x{c}\nconst axes i64 {n} = {axes}\ny = {kind}(x, axes)\noutput y"), seed);
        check(&format!("input x f32 {a}x{b}x{c}\ny = Softmax(x) axis={}\noutput y", r.below(3)), seed);
        check(&format!("input x f32 {a}x{b}x{c}\ny = LogSoftmax(x) axis=-1\noutput y"), seed);
        check(
            &format!("input x f32 {a}x{b}x{c}\nconst s f32 {c} random\nconst t f32 {c} random\ny = LayerNormalization(x, s, t)\noutput y"),
            seed,
        );
        check(
            &format!(
                "input x f32 {a}x{b}x{c}\nconst s f32 {b} random\nconst t f32 {b} random\ny = InstanceNormalization(x, s, t) epsilon=0.01\noutput y"
            ),
            seed,
        );
        check(&format!("input x f64 {a}x{b}\ny = Softmax(x)\nz = ReduceProd(x)\noutput y\noutput z"), seed);
    }
}

#[test]
fn pooling() {
    for seed in 0..60 {
        let r = &mut Random(seed);
        let (c, h, w, k, s) = (r.within(1, 70), r.within(6, 12), r.within(6, 12), r.within(1, 3), r.within(1, 3));
        let (kind, extra) = [("MaxPool", ""), ("AveragePool", ""), ("AveragePool", "count_include_pad=1")][r.below(3)];
        let ceil = r.below(2);
        check(
            &format!(
                "input x f32 1x{c}x{h}x{w}\ny = {kind}(x) kernel_shape=[{k},{k}] strides=[{s},{s}] pads=[{p},{p},0,0] ceil_mode={ceil} {extra}\noutput y",
                p = r.below(k)
            ),
            seed,
        );
        check(
            &format!(
                "input x f32 1x{c}x{h}x{w}\nconst f f32 {c}x{c}x1x1 random\na = Conv(x, f)\ny = {kind}(a) kernel_shape=[{k},{k}] strides=[{s},{s}] {extra}\noutput y"
            ),
            seed,
        );
    }
}

#[test]
fn maps_broadcast_and_mix_types() {
    for seed in 0..60 {
        let r = &mut Random(seed);
        let (a, b, c) = (r.within(1, 5), r.within(1, 5), r.within(1, 300));
        let shapes = [format!("{a}x{b}x{c}"), format!("{b}x{c}"), format!("{c}"), format!("{b}x1"), format!("{a}x1x1"), "1".to_owned()];
        let (s, t) = (&shapes[r.below(6)], &shapes[r.below(6)]);
        let f = r.pick(&["Add", "Sub", "Mul", "Max", "Min"]);
        check(
            &format!("input x f32 {a}x{b}x{c}\ninput y f32 {s}\ninput z f32 {t}\nu = {f}(x, y)\nv = Add(u, z)\nw = Tanh(v)\noutput w"),
            seed,
        );
        check(&format!("input x i64 {a}x{b}x{c}\ninput y i64 {s}\nu = {f}(x, y)\nv = Cast(u) to=1\nl = Less(x, y)\nw = Where(l, v, h)\nh = Cast(x) to=1\noutput l\noutput u", ).replace("w = Where(l, v, h)\nh = Cast(x) to=1\n", "h = Cast(x) to=1\nw = Where(l, v, h)\noutput w\n"), seed);
        check(&format!("input x f16 {a}x{c}\ninput y f16 {c}\nu = Mul(x, y)\nv = Sigmoid(u)\noutput v"), seed);
        check(&format!("input x f32 {a}x{b}x{c}\nt = Transpose(x) perm=[2,0,1]\ny = Exp(t)\nz = Trilu(y)\noutput z"), seed);
    }
}

#[test]
fn movement_and_indexing() {
    for seed in 0..40 {
        let r = &mut Random(seed);
        let (a, b, c) = (r.within(2, 6), r.within(3, 9), r.within(3, 40));
        check(
            &format!(
                "input x f32 {a}x{b}x{c}
            const starts i64 2 = 1 -1
            const ends i64 2 = 100 -100
            const axes i64 2 = 1 2
            const steps i64 2 = 2 -1
            s = Slice(x, starts, ends, axes, steps)
            y = Transpose(s) perm=[2,1,0]
            z = Concat(y, y) axis={}
            const pads i64 6 = 1 0 2 0 1 1
            p = Pad(z, pads)
            q = Pad(z, few) mode=\"reflect\"
            const few i64 6 = 1 0 0 1 0 0
            output p
            output q",
                r.below(3)
            ),
            seed,
        );
        check(
            &format!(
                "input x f32 {a}x{b}x{c}
            const i i64 4 = 0 1 -1 1
            y = Gather(x, i) axis={}
            const two i64 1 = 2
            v, w = TopK(x, two) axis={}
            m = ArgMax(x) axis=1
            s = CumSum(x, one)
            const one i64 - = 1
            output y
            output v
            output w
            output m
            output s",
                r.below(3),
                r.below(2)
            ),
            seed,
        );
        check(
            &format!(
                "input x f32 1x{b}x{a}x{a}\nconst s f32 4 = 1 1 2 1.5\ny = Resize(x,,s) mode=\"linear\"\nz = Resize(x,,s) mode=\"cubic\"\nn = Resize(x,,s)\noutput y\noutput z\noutput n"
            ),
            seed,
        );
    }
}

/// Maps over short rows, several of which are computed at once: operands whose rows follow each other, are one, or lie apart; results too.
#[test]
fn maps_over_short_rows() {
    for seed in 0..60 {
        let r = &mut Random(seed);
        let [a, b, c] = [r.within(1, 9), r.within(1, 40), r.within(1, 30)];
        let t = r.pick(&["f32", "f64", "i64", "i32", "i8", "f16"]);
        check(
            &format!(
                "input x {t} {a}x{b}x{c}\ninput r {t} {c}\ninput o {t} {a}x1x1\ninput m {t} {b}x{a}x{c}\ninput z {t} 1x{b}x1\n\
                 p = Transpose(m) perm=[1,0,2]\ns = Mul(x, r)\nu = Add(s, o)\nv = Sub(u, p)\nw = Mul(v, z)\ng = Less(w, r)\n\
                 q = Transpose(w) perm=[1,0,2]\noutput w\noutput g\noutput q\noutput u"
            ),
            seed,
        );
    }
}

/// Whatever schedule a search finds, a product gives the same but for rounding, and one that is none of its kernel's is passed over.
#[test]
fn products_by_every_schedule() {
    use wpk_plan::{CpuSchedule, CpuSchedules, CpuStep};
    let models = [
        "input x f32 70x600\nconst w f32 600x50 random\nconst b f32 50 random\ny = Gemm(x, w, b)\noutput y",
        "input x f32 1x32x13x11\nconst w f32 48x32x3x3 random\nc = Conv(x, w) pads=[1,1,1,1]\ny = Relu(c)\noutput y",
        "input x f32 2x20x9x9\nconst w f32 24x20x3x3 random\ny = Conv(x, w) strides=[2,2]\noutput y",
        "input i f32 1x13x11x32\nx = Transpose(i) perm=[0,3,1,2]\nconst w f32 48x32x3x3 random\nc = Conv(x, w) pads=[1,1,1,1]\ny = Transpose(c) perm=[0,2,3,1]\noutput y",
        "input i f32 2x13x11x32\nx = Transpose(i) perm=[0,3,1,2]\nconst w f32 48x32x1x3 random\nc = Conv(x, w) strides=[2,1] pads=[0,1,1,1]\ny = Transpose(c) perm=[0,2,3,1]\noutput y",
        "input i f32 1x13x11x48\nx = Transpose(i) perm=[0,3,1,2]\nconst w f32 32x48x3x1 random\nc = Conv(x, w) pads=[1,0,1,0]\ny = Transpose(c) perm=[0,2,3,1]\noutput y",
    ];
    let run = |program: wpk_plan::Program, weights: Vec<u8>| {
        let input: Vec<u8> =
            text::random(3, program.buckets[0].1.inputs[0].shape.iter().product()).iter().flat_map(|&v| (v as f32).to_ne_bytes()).collect();
        let mut result = vec![0; program.buckets[0].1.outputs[0].bytes()];
        let model = wpk_rt::Model::new(program, wpk_rt::Weights::Owned(weights), wpk_rt::Device::Cpu).unwrap_or_else(|e| panic!("{e}"));
        model.run(0, &[&input], &mut [&mut result]).unwrap_or_else(|e| panic!("{e}"));
        result.chunks(4).map(|b| f64::from(f32::from_ne_bytes([b[0], b[1], b[2], b[3]]))).collect::<Vec<f64>>()
    };
    for model in models {
        let source = parse(text::bytes(model)).expect("the model is read");
        let compiled = wpk_build::Model::new("m.onnx").build_from(&source).unwrap_or_else(|d| panic!("{d}"));
        let plan = &compiled.program.buckets[0].1;
        let step = plan.body.steps().iter().position(|s| s.kernel.problem().family() == "contraction").expect("a product") as u32;
        let expected = run(compiled.program.clone(), compiled.blob.to_bytes());
        for (family, params) in CpuSchedule::FAMILIES {
            let mut all: Vec<Vec<u32>> = vec![vec![]];
            for (_, values) in *params {
                all = all.iter().flat_map(|v| values.iter().map(|&x| [v.as_slice(), &[x]].concat())).collect();
            }
            for values in all {
                let schedule = CpuSchedule::of(family, &values).expect("a schedule");
                let (device, threads) = (wpk_rt::trial::identity().to_owned(), wpk_rt::trial::threads());
                let cpus = vec![CpuSchedules { device, threads, steps: vec![CpuStep { bucket: 0, step, schedule }] }];
                let found = run(wpk_plan::Program { cpus, ..compiled.program.clone() }, compiled.blob.to_bytes());
                let square = |f: &dyn Fn(usize) -> f64| (0..expected.len()).map(|i| f(i).powi(2)).sum::<f64>();
                let error = (square(&|i| found[i] - expected[i]) / square(&|i| expected[i])).sqrt();
                assert!(error < 2e-5, "{schedule}: {error:.1e}\n{model}");
            }
        }
    }
}

/// What is no number is larger than all that are.
#[test]
fn orders_with_what_is_no_number() {
    for (seed, largest) in (0..20).map(|n| (n, n % 2)) {
        let top = format!("const k i64 1 = 30\nl = Log(x)\nv, i = TopK(l, k) axis=1 largest={largest}\nn = IsNaN(v)\noutput n\noutput i");
        check(&format!("input x f32 2x40\n{top}"), seed);
        // And of windows, by whole vectors and not.
        let of = "t = Transpose(l) perm=[0,3,1,2]\np = MaxPool(t) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1]\nn = IsNaN(p)\ny = Where(n, o, p)";
        check(
            &format!("input x f32 1x9x8x{}\nconst o f32 1 = 0\nl = Log(x)\n{of}\noutput n\noutput y", [64, 80, 16][seed as usize % 3]),
            seed,
        );
    }
}

#[test]
fn sums_with_two_biases_and_a_residual() {
    for seed in 0..30 {
        let r = &mut Random(seed);
        let (ci, co, mid, side) = (r.within(1, 40), r.within(1, 70), r.within(1, 20), r.within(1, 9));
        // The bias of the first product reaches the end of the second beside its own.
        check(
            &format!(
                "input x f32 1x{ci}x{side}x{side}
                 const v f32 {mid}x{ci}x1x1 random
                 const w f32 {co}x{mid}x1x1 random
                 const b f32 {co} random
                 const d f32 {co}x{ci}x1x1 random
                 const e f32 {co} random
                 a = Conv(x, v)
                 m = Relu(a)
                 p = Conv(m, w, b)
                 q = Conv(x, d, e)
                 s = Add(p, q)
                 y = Relu(s)
                 output y"
            ),
            seed,
        );
    }
}

/// Batches whose first results are large are computed image by image up to where they get small, or images meet.
#[test]
fn images_apart() {
    for (seed, rest) in [
        "y = GlobalAveragePool(p)",
        "m = ReduceMean(p, axes) axes=[2,3] keepdims=0\nconst axes i64 2 = 2 3\ny = MatMul(m, v)\nconst v f32 2x5 random",
        "s = Softmax(p) axis=0\ny = ReduceSum(s)",
        "a = Add(p, q)\nconst q f32 3x2x1x1 random\ny = ReduceMax(a)",
    ]
    .iter()
    .enumerate()
    {
        check(
            &format!(
                "opset 17\ninput x f32 3x2x512x512\nconst w f32 2x2x1x1 random\nconst b f32 2 random\nc = Conv(x, w, b)\nr = Relu(c)
                t = Add(r, x)\np = MaxPool(t) kernel_shape=[8,8] strides=[8,8]\n{rest}\noutput y"
            ),
            seed as u64,
        );
    }
}
