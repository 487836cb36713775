//! Dimensions given as ranges: a request of any size has the result that it would have by itself, whatever lies behind it.

use wpk_build::Model;
use wpk_plan::{Count, DType, Plan, Role};
use wpk_tests::ranges::{check, compile, load, run, same, spread, values};
use wpk_tests::text;

#[test]
fn what_does_not_mix_elements_is_independent() {
    check(
        "input x f32 nx3x8x8\nconst w f32 4x3x3x3 random\nc = Conv(x, w) pads=[1,1,1,1]\nr = Relu(c)\np = MaxPool(r) kernel_shape=[2,2] strides=[2,2]\ng = GlobalAveragePool(p)\ny = Flatten(g)\noutput y",
    );
    check(
        "input x f32 nx6\nconst w f32 6x5 random\nconst b f32 5 random\nh = Gemm(x, w, b)\ny = Softmax(h) axis=1\nz = ReduceMax(h) axes=[1] keepdims=0\noutput y\noutput z",
    );
    check("input x f32 2xnx4\nt = Transpose(x) perm=[0,2,1]\ny = Exp(t)\noutput y");
}

#[test]
fn sums_and_extremes_see_neutral_elements() {
    for op in
        ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2", "ReduceL1", "ReduceSumSquare", "ReduceLogSumExp"]
    {
        check(&format!(
            "opset 13\ninput x f32 3xnx2\nconst axes i64 1 = 1\ny = {op}(x{}) keepdims=0 {}\noutput y",
            if op == "ReduceSum" { ", axes" } else { "" },
            if op == "ReduceSum" { "" } else { "axes=[1]" }
        ));
    }
    check("input x f32 2xn\ny = Softmax(x) axis=1\noutput y");
    check("input a f32 2xn\ninput b f32 nx3\ny = MatMul(a, b)\noutput y");
    check("input x f32 nx4\nconst axis i64 - = 0\ny = CumSum(x, axis)\nz = CumSum(x, axis) reverse=1\noutput y\noutput z");
}

#[test]
fn attention_of_any_length() {
    // Queries, keys and values of as many tokens, heads split and joined by shapes that the model computes.
    check(
        "input x f32 2xnx8
         const wq f32 8x8 random
         const wk f32 8x8 random
         const wv f32 8x8 random
         const four i64 4 = 0 0 2 4
         const three i64 3 = 0 0 8
         const scale f32 - = 0.5
         q = MatMul(x, wq)
         k = MatMul(x, wk)
         v = MatMul(x, wv)
         q4 = Reshape(q, four)
         k4 = Reshape(k, four)
         v4 = Reshape(v, four)
         qh = Transpose(q4) perm=[0,2,1,3]
         kh = Transpose(k4) perm=[0,2,3,1]
         vh = Transpose(v4) perm=[0,2,1,3]
         s = MatMul(qh, kh)
         t = Mul(s, scale)
         p = Softmax(t) axis=3
         o = MatMul(p, vh)
         j = Transpose(o) perm=[0,2,1,3]
         h = Reshape(j, three)
         y = Add(h, x)
         output y",
    );
    // The first token, by a position that exists in every request; positions by a prefix of a constant.
    check(
        "input x i64 1xn
         const words f32 5x4 random
         const places f32 1x16x4 random
         const zero i64 - = 0
         const starts i64 1 = 0
         const axes i64 1 = 1
         e = Gather(words, x)
         shape = Shape(x)
         const one i64 1 = 1
         n = Gather(shape, one)
         p = Slice(places, starts, n, axes)
         s = Add(e, p)
         c = Gather(s, zero) axis=1
         m = ReduceMean(s) axes=[1] keepdims=0
         output c
         output m",
    );
}

#[test]
fn dimensions_merged_with_others_and_split_again() {
    // Behind another dimension, what exists are not the first rows of the product.
    check(
        "input x f32 3xnx4
         const rows i64 2 = -1 4
         const split i64 3 = 3 -1 5
         const w f32 4x5 random
         r = Reshape(x, rows)
         h = MatMul(r, w)
         y = Reshape(h, split)
         s = ReduceMax(h) axes=[0]
         m = ReduceMean(h) axes=[0]
         output y
         output s
         output m",
    );
    check(
        "input x f32 3xn\ninput i f32 3xn\nconst two f32 - = 2\na = Abs(i)\nb = Mul(a, two)\nj = Cast(b) to=7\nconst v f32 3x9 random\ny = GatherElements(v, j) axis=1\nz = Add(y, x)\noutput z",
    );
}

#[test]
fn positions_that_count_along_a_dimension() {
    // Elements (row, 2) and (row, 0) of every row, as exporters write masks.
    check(
        "input x f32 nx3
         const one i64 1 = 1
         const none i64 1 = 0
         const zero i64 - = 0
         const first i64 - = 0
         const step i64 - = 1
         const ends i64 1x2x1 = 2 0
         const shape i64 3 = -1 1 1
         s = Shape(x)
         r = Gather(s, zero)
         i = Range(first, r, step)
         c = Reshape(i, shape)
         const two i64 3 = 1 2 1
         t = Tile(c, two)
         z = Mul(t, zero)
         e = Add(z, ends)
         p = Concat(t, e) axis=2
         y = GatherND(x, p)
         output y",
    );
}

#[test]
fn several_ranges() {
    let model = "input x f32 nxmx4
         const rows i64 2 = -1 4
         const w f32 4x5 random
         r = Reshape(x, rows)
         h = MatMul(r, w)
         s = ReduceSum(h) keepdims=0
         t = ReduceSum(x) axes=[0] keepdims=0
         output s
         output t";
    let model = &model.replace("ReduceSum(x) axes=[0]", "ReduceMin(x) axes=[0]");
    let flexible = compile(model, |m| m.range("n", 1..=5).range("m", 2..=7)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(flexible.inflexible, Vec::<String>::new());
    let loaded = load(&flexible);
    for (n, m) in [(1, 2), (1, 7), (3, 3), (5, 2), (4, 6), (5, 7)] {
        let exact = compile(model, |b| b.dim("n", [n]).dim("m", [m])).unwrap_or_else(|e| panic!("{e}"));
        let own = &exact.program.buckets[0].1;
        let given = vec![values(DType::F32, 1, n * m * 4)];
        let expected = run(&load(&exact), 0, own, &given);
        let request = [(own.inputs[0].shape.as_slice(), given[0].as_slice())];
        same(&loaded.run_dynamic(&request).unwrap_or_else(|e| panic!("{e}")), own, &expected, &format!("{n} {m}"));
        let fits = |b: &&(Vec<usize>, Plan)| b.0[0] >= n && b.0[1] >= m;
        let (bucket, (_, plan)) = flexible
            .program
            .buckets
            .iter()
            .enumerate()
            .filter(|b| fits(&b.1))
            .min_by_key(|b| b.1.0.iter().product::<usize>())
            .expect("a plan");
        let sizes = plan.inputs[1..].iter().map(|p| if p.role == Role::Size(0) { n as i64 } else { m as i64 });
        let nan = f32::NAN.to_ne_bytes();
        let inputs: Vec<Vec<u8>> = [spread(&given[0], &own.inputs[0].shape, &plan.inputs[0].shape, &nan)]
            .into_iter()
            .chain(sizes.map(|s| s.to_ne_bytes().to_vec()))
            .collect();
        same(&plan.existing(&run(&loaded, bucket, plan, &inputs), &[n, m]), own, &expected, &format!("{n} {m}, padded"));
    }
}

#[test]
fn what_depends_on_the_size_runs_at_the_plans_sizes_only() {
    let reason = |model: &str| {
        let compiled = compile(model, |m| m.range("n", 1..=7)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((compiled.program.dims[0].least, compiled.inflexible.len()), (None, 1));
        assert!(compiled.program.buckets.iter().all(|(_, p)| p.inputs.iter().all(|p| p.role == Role::Own && p.bounds.is_empty())));
        compiled.inflexible[0].clone()
    };
    let found = reason(
        "input x f32 nx4\nodd = Slice(x, s, e, a, t)\nconst s i64 1 = 0\nconst e i64 1 = 99\nconst a i64 1 = 0\nconst t i64 1 = 2\noutput odd",
    );
    assert!(found.contains("\"n\" runs only at [1, 2, 4, 7]") && found.contains("a range of it depends on how many"), "{found}");
    let found = reason("input x f32 4x9\ninput z f32 n\nshape = Shape(z)\ny, i = TopK(x, shape)\noutput y");
    assert!(found.contains("TopK") && found.contains("is computed from a size that is known at run time only"), "{found}");
    let found = reason(
        "input x f32 n\nconst zero i64 - = 0\nconst one i64 - = 1\nconst many i64 1 = 1048570\nshape = Shape(x)\nsum = Add(shape, many)\nend = Squeeze(sum)\nr = Range(zero, end, one)\noutput r",
    );
    assert!(found.contains("Range") && found.contains("up to 1048577 values follow from sizes"), "{found}");
    // Below three a start of three less counts from the end.
    let found = reason(
        "input x f32 nx4\nshape = Shape(x)\nconst three i64 - = 3\nconst a i64 1 = 0\nconst e i64 1 = 99\nb = Sub(shape, three)\ns = Gather(b, a)\nlast = Slice(x, s, e, a)\noutput last",
    );
    assert!(found.contains("a range of it depends on how many"), "{found}");
    // Half of a size is no multiple of it.
    let found = reason(
        "input x f32 nx4\ninput w f32 1x1\nshape = Shape(x)\nconst two i64 - = 2\nhalves = Div(shape, two)\ny = Expand(w, halves)\noutput y",
    );
    assert!(found.contains("Expand: shape (input 1) is computed at run time"), "{found}");
    let found = reason("input x f32 2xnx4x4\ny, i = MaxPool(x) kernel_shape=[2,2]\noutput y\noutput i");
    assert!(found.contains("MaxPool") && found.contains("a window depends on how many"), "{found}");
    let found = reason("input x f32 1x1xn\nconst w f32 1x1x3 random\ny = Conv(x, w) pads=[1,1]\noutput y");
    assert!(found.contains("Conv") && found.contains("depends on how many"), "{found}");
}

/// A macro cannot warn: what it has to say is the note of something deprecated.
#[test]
fn the_macro_tells_what_is_not_flexible() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = |model: &str| {
        let path = folder.path().join("m.onnx");
        std::fs::write(&path, text::bytes(model)).expect("it is written");
        let tokens = Model::new(path).range("n", 1..=7).expand(&Default::default(), &Default::default());
        tokens.unwrap_or_else(|d| panic!("{d}")).to_string()
    };
    let tokens = told("input x f32 1x1xn\nconst w f32 1x1x3 random\ny = Conv(x, w) pads=[1,1]\noutput y");
    assert!(
        tokens.contains("# [deprecated (note = ") && tokens.contains("m.onnx: dimension \\\"n\\\" runs only at [1, 2, 4, 7]"),
        "{tokens}"
    );
    assert!(!told("input x f32 nx4\ny = Relu(x)\noutput y").contains("deprecated"));
}

#[test]
fn requests_that_do_not_fit_are_errors() {
    let compiled =
        compile("input a f32 nxm\ninput b f32 nx2\ny = MatMul(b, c)\nconst c f32 2x3 random\nz = Relu(a)\noutput y\noutput z", |m| {
            m.range("n", 2..=6).dim("m", [4, 8])
        })
        .unwrap_or_else(|e| panic!("{e}"));
    let model = load(&compiled);
    let call = |a: [usize; 2], b: [usize; 2]| {
        let bytes = |s: [usize; 2]| vec![0u8; s[0] * s[1] * 4];
        let results = model.run_dynamic(&[(&a, &bytes(a)), (&b, &bytes(b))]);
        results.map(|r| r.into_iter().map(|r| r.0).collect::<Vec<_>>()).map_err(|e| e.to_string())
    };
    assert_eq!(call([3, 5], [3, 2]), Ok(vec![vec![3, 3], vec![3, 5]]));
    assert_eq!(call([6, 8], [6, 2]), Ok(vec![vec![6, 3], vec![6, 8]]));
    for (a, b, told) in [
        ([7, 4], [7, 2], "input \"a\", dimension \"n\": expected 2 to 6, found 7"),
        ([1, 4], [1, 2], "input \"a\", dimension \"n\": expected 2 to 6, found 1"),
        ([3, 9], [3, 2], "input \"a\", dimension \"m\": expected 1 to 8, found 9"),
        ([3, 4], [4, 2], "input \"b\", dimension \"n\": expected 3, found 4"),
        ([3, 4], [3, 3], "input \"b\", axis 1: expected 2, found 3"),
    ] {
        assert_eq!(call(a, b).map_err(|e| e.contains(told).then_some(()).ok_or(e)), Err(Ok(())), "{told}");
    }
}

#[test]
fn sizes_are_inputs_only_where_they_are_needed() {
    let inputs = |model: &str| {
        let compiled = compile(model, |m| m.range("n", 1..=4)).unwrap_or_else(|e| panic!("{e}"));
        compiled.program.buckets.iter().map(|b| b.1.inputs.len()).collect::<Vec<_>>()
    };
    // No smaller requests than one run in the plan of one.
    assert_eq!(inputs("input x f32 nx4\ny = Relu(x)\noutput y"), [1, 1, 1]);
    assert_eq!(inputs("input x f32 nx4\ny = ReduceSum(x)\noutput y"), [1, 2, 2]);
    let compiled =
        compile("input x f32 nx4\nf = Flatten(x) axis=0\ny = Relu(f)\noutput y", |m| m.range("n", 1..=4)).unwrap_or_else(|e| panic!("{e}"));
    let bounds = &compiled.program.buckets[2].1.outputs[0].bounds;
    assert_eq!(bounds[..], [wpk_plan::Bound { axis: 1, terms: vec![(Count::Dim(0), 4)], plus: 0 }]);
}
