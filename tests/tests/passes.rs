//! Graph passes as text: the model, the pass, the graph after it.

use wpk_build::import::{Options, import};
use wpk_build::onnx::parse;
use wpk_build::passes::{Optimized, by_image};
use wpk_tests::passes::{check, run};
use wpk_tests::text;

#[test]
fn half_precision_is_widened() {
    check(
        "input x f16 4
         y = Exp(x)
         output y",
        "fuse_maps",
        "input x: f16[4]
         %0: f16[4] = map f16(exp(f32($0)))(x)
         output y = %0",
    );
}

#[test]
fn layer_normalization_is_recognized() {
    let model = "input x f32 2x8
         m = ReduceMean(x) axes=[-1]
         d = Sub(x, m)
         const two f32 - = 2
         s = Pow(d, two)
         v = ReduceMean(s) axes=[-1]
         const e f32 - = 0.00001
         a = Add(v, e)
         r = Sqrt(a)
         n = Div(d, r)
         const w f32 8 random
         const b f32 8 random
         z = Mul(n, w)
         y = Add(z, b)
         output y";
    check(
        model,
        "layer_norm",
        "input x: f32[2, 8]
         %0: f32[2, 8] = normalize layer 9.999999747378752e-6(x, const f32[8], const f32[8])
         output y = %0",
    );
}

#[test]
fn batch_normalization_moves_into_weights() {
    check(
        "input x f32 1x2x4x4
         const w f32 3x2x3x3 random
         const s f32 3 = 1 2 3
         const b f32 3 = 1 2 3
         const m f32 3 = 1 2 3
         const v f32 3 = 1 2 3
         c = Conv(x, w)
         y = BatchNormalization(c, s, b, m, v)
         output y",
        "batch_norm",
        "input x: f32[1, 2, 4, 4]
         %0: f32[1, 3, 2, 2] = conv stride [1, 1] pad [0, 0](x, const f32[3, 2, 3, 3])
         %1: f32[1, 3, 2, 2] = map add($0, $1)(%0, const f32[3, 1, 1])
         output y = %1",
    );
}

const ATTENTION: &str = "input q f32 1x2x4x8
         input k f32 1x2x8x6
         input v f32 1x2x6x8
         input mask f32 1x1x1x6
         p = MatMul(q, k)
         const root f32 - = 4
         d = Div(p, root)
         m = Add(d, mask)
         s = Softmax(m) axis=-1
         y = MatMul(s, v)
         output y";

#[test]
fn attention_is_recognized() {
    check(
        ATTENTION,
        "epilogue",
        "input q: f32[1, 2, 4, 8]
         input k: f32[1, 2, 8, 6]
         input v: f32[1, 2, 6, 8]
         input mask: f32[1, 1, 1, 6]
         %0: f32[1, 2, 6, 8] = transpose [0, 1, 3, 2](k)
         %1: f32[1, 2, 4, 8] = attention scale 0.25(q, %0, v, mask)
         output y = %1",
    );
}

#[test]
fn attention_whose_scores_are_read_is_left_alone() {
    let (graph, remarks) = run(&format!("{ATTENTION}\noutput s"), "attention");
    assert!(graph.contains("softmax") && !graph.contains("attention"), "{graph}");
    assert_eq!(remarks, ["MatMul#4 was not fused into Softmax#3: its input is read elsewhere too"]);
}

#[test]
fn gelu_is_recognized_in_a_chain_of_maps() {
    check(
        "input x f32 2x8
         const root f32 - = 1.4142135
         const one f32 - = 1
         const half f32 - = 0.5
         d = Div(x, root)
         e = Erf(d)
         p = Add(e, one)
         m = Mul(x, p)
         y = Mul(m, half)
         output y",
        "fuse_maps",
        "input x: f32[2, 8]
         %0: f32[2, 8] = map gelu($0)(x)
         output y = %0",
    );
}

#[test]
fn silu_and_hardswish_are_recognized() {
    check(
        "input x f32 4
         s = Sigmoid(x)
         a = Mul(x, s)
         h = HardSigmoid(a) alpha=0.16666667 beta=0.5
         y = Mul(a, h)
         output y",
        "fuse_maps",
        "input x: f32[4]
         %0: f32[4] = map silu($0)(x)
         %1: f32[4] = map hardswish($0)(%0)
         output y = %1",
    );
}

#[test]
fn global_pooling_is_a_mean_over_height_and_width() {
    let expected = "input x: f32[1, 4, 3, 3]
         %0: f32[1, 4, 1, 1] = reduce mean [2, 3](x)
         output y = %0";
    check("input x f32 1x4x3x3\n y = ReduceMean(x) axes=[2,3]\n output y", "widen", expected);
    check("input x f32 1x4x3x3\n y = GlobalAveragePool(x)\n output y", "widen", expected);
}

#[test]
fn transposes_move_down_and_cancel() {
    check(
        "input x f32 1x8x4x4
         const w f32 8x8x3x3 random
         const v f32 8x8x1x1 random
         a = Conv(x, w) pads=[1,1,1,1]
         b = Relu(a)
         c = MaxPool(b) kernel_shape=[2,2] strides=[2,2]
         d = Conv(c, v)
         y = GlobalAveragePool(d)
         output y",
        "epilogue",
        "input x: f32[1, 8, 4, 4]
         %0: f32[1, 4, 4, 8] = transpose [0, 2, 3, 1](x)
         %1: f32[1, 4, 4, 8] = conv stride [1, 1] pad [1, 1] channels_last then max($0, 0.0)(%0, const f32[8, 8, 3, 3])
         %2: f32[1, 2, 2, 8] = window max [1, 2, 2, 1] stride [1, 2, 2, 1] pad [0, 0, 0, 0](%1)
         %3: f32[1, 2, 2, 8] = conv stride [1, 1] pad [0, 0] channels_last(%2, const f32[8, 8, 1, 1])
         %4: f32[1, 1, 1, 8] = reduce mean [1, 2](%3)
         %5: f32[1, 8, 1, 1] = reshape(%4)
         output y = %5",
    );
}

#[test]
fn bias_residual_and_activation_move_into_the_product() {
    check(
        "input x f32 4x8
         const w f32 8x8 random
         const b f32 8 random
         m = MatMul(x, w)
         a = Add(m, b)
         r = Add(a, x)
         y = Relu(r)
         output y",
        "epilogue",
        "input x: f32[4, 8]
         %0: f32[4, 8] = contract ab,bc->ac then max(add(add($0, $1), $2), 0.0)(x, const f32[8, 8], const f32[8], x)
         output y = %0",
    );
}

#[test]
fn a_shared_product_keeps_its_activation_apart() {
    let (graph, remarks) = run(
        "input x f32 4x8
         const w f32 8x8 random
         m = MatMul(x, w)
         y = Relu(m)
         output y
         output m",
        "epilogue",
    );
    assert!(graph.contains("map max($0, 0.0)"), "{graph}");
    assert_eq!(remarks, ["Relu#1 was not fused into MatMul#0: its input is read elsewhere too"]);
}

#[test]
fn two_biases_of_a_sum_become_one() {
    check(
        "input x f32 4x8
         input z f32 4x8
         const v f32 8x6 random
         const w f32 8x6 random
         const b f32 6 = 1 2 3 4 5 6
         const c f32 6 = 10 20 30 40 50 60
         p = MatMul(x, v)
         q = Add(p, b)
         r = MatMul(z, w)
         s = Add(r, c)
         t = Add(q, s)
         y = Relu(t)
         output y",
        "merge_biases",
        "input x: f32[4, 8]
         input z: f32[4, 8]
         %0: f32[4, 6] = contract ab,bc->ac(x, const f32[8, 6])
         %1: f32[4, 6] = contract ab,bc->ac then max(add(add($1, $2), $0), 0.0)(z, const f32[8, 6], %0, const f32[6])
         output y = %1",
    );
}

#[test]
fn products_of_quantized_factors_are_sums_of_bytes() {
    check(
        "opset 19
         input x u8 1x2x4x4
         const w i8 3x2x3x3 random
         const s f32 - = 0.5
         const v f32 3 = 0.5 0.25 2
         const z u8 - = 130
         const o i8 3 = 0 0 0
         d = DequantizeLinear(x, s, z)
         f = DequantizeLinear(w, v, o) axis=0
         y = Conv(d, f) pads=[1,0,1,0]
         output y",
        "integer",
        "input x: u8[1, 2, 4, 4]
         %0: i8[1, 2, 4, 4] = map i8(sub(i32($0), 128))(x)
         %1: i8[1, 4, 4, 2] = transpose [0, 2, 3, 1](%0)
         %2: i8[1, 6, 4, 2] = pad [0, 1, 0, 0] [0, 1, 0, 0](%1)
         %3: i8[1, 2, 6, 4] = transpose [0, 3, 1, 2](%2)
         %4: i32[1, 3, 4, 2] = conv stride [1, 1] pad [0, 0](%3, const i8[3, 2, 3, 3])
         %5: i32[1, 3, 4, 2] = map add($0, $1)(%4, const i32[1, 3, 1, 1])
         %6: f32[1, 3, 4, 2] = map f32($0)(%5)
         %7: f32[1, 3, 4, 2] = map mul($0, $1)(%6, const f32[1, 3, 1, 1])
         output y = %7",
    );
    // The scale differs along what is summed over.
    check(
        "opset 19
         input x i8 2x3
         const w i8 3x2 random
         const s f32 - = 0.5
         const v f32 3 = 0.5 0.25 2
         const o i8 3 = 0 0 0
         d = DequantizeLinear(x, s)
         f = DequantizeLinear(w, v, o) axis=0
         y = MatMul(d, f)
         output y",
        "integer",
        "input x: i8[2, 3]
         %0: f32[2, 3] = map mul(f32(i32($0)), 0.5)(x)
         %1: f32[2, 2] = contract ab,bc->ac(%0, const f32[3, 2])
         output y = %1",
    );
}

#[test]
fn the_largest_of_quantized_numbers_is_that_of_levels() {
    check(
        "opset 19
         input x i8 1x2x4x4
         const s f32 - = 0.5
         const z i8 - = 3
         d = DequantizeLinear(x, s, z)
         y = MaxPool(d) kernel_shape=[2,2] strides=[2,2]
         output y",
        "integer",
        "input x: i8[1, 2, 4, 4]
         %0: i8[1, 2, 2, 2] = window max [1, 1, 2, 2] stride [1, 1, 2, 2] pad [0, 0, 0, 0](x)
         %1: f32[1, 2, 2, 2] = map mul(f32(sub(i32($0), 3)), 0.5)(%0)
         output y = %1",
    );
}

/// The text of a graph image by image, or of the graph as it is.
#[track_caller]
fn check_apart(model: &str, expected: &str) {
    let source = parse(text::bytes(model)).expect("the model is read");
    let graph = import(&source, &Options::default()).expect("the model is imported");
    let apart = by_image(Optimized { graph, remarks: vec![] }).expect("the graph is whole").graph.to_string();
    let normal = |s: &str| s.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n");
    assert_eq!(normal(&apart), normal(expected), "\nfound:\n{apart}");
}

#[test]
fn large_results_are_computed_image_by_image() {
    check_apart(
        "input x f32 2x1x1024x1024
         const w f32 1x1x1x1 = 3
         c = Conv(x, w)
         p = MaxPool(c) kernel_shape=[64,64] strides=[64,64]
         y = Softmax(p) axis=3
         output y",
        "input x: f32[2, 1, 1024, 1024]
         %0: f32[1, 1, 1024, 1024] = slice from [0, 0, 0, 0] by [1, 1, 1, 1](x)
         %1: f32[1, 1, 1024, 1024] = conv stride [1, 1] pad [0, 0](%0, 3:f32)
         %2: f32[1, 1, 16, 16] = window max [1, 1, 64, 64] stride [1, 1, 64, 64] pad [0, 0, 0, 0](%1)
         %3: f32[1, 1, 1024, 1024] = slice from [1, 0, 0, 0] by [1, 1, 1, 1](x)
         %4: f32[1, 1, 1024, 1024] = conv stride [1, 1] pad [0, 0](%3, 3:f32)
         %5: f32[1, 1, 16, 16] = window max [1, 1, 64, 64] stride [1, 1, 64, 64] pad [0, 0, 0, 0](%4)
         %6: f32[2, 1, 16, 16] = concat axis 0(%2, %5)
         %7: f32[2, 1, 16, 16] = softmax(%6)
         output y = %7",
    );
    // Images meet in the first step, results are small, or weights are larger.
    for model in [
        "input x f32 2x1x1024x1024\ny = ReduceSum(x, a) keepdims=1\nconst a i64 1 = 0\noutput y",
        "input x f32 2x4\ny = Relu(x)\noutput y",
        "input x f32 8x256x32x16\nconst w f32 256x256x3x3 random\ny = Conv(x, w) pads=[1,1,1,1]\noutput y",
    ] {
        let source = parse(text::bytes(model)).expect("the model is read");
        let whole = import(&source, &Options::default()).expect("the model is imported").to_string();
        check_apart(model, &whole);
    }
}
