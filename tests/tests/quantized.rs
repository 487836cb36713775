//! Products of bytes on the CPU against the naive evaluator, on random problems.
//!
//! `WPK_ISA=portable` and `WPK_ISA=avx2` run the same cases on other instruction sets.

use wpk_tests::beside::{Random, check};

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
