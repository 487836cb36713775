//! Convolutions on the CPU against the naive evaluator, on random problems: plain, by minimal filtering, depthwise, transposed, of other ranks.
//!
//! `WPK_ISA=portable` and `WPK_ISA=avx2` run the same cases on other instruction sets.

use wpk_build::Precision;
use wpk_tests::beside::{Random, check, check_to};

#[test]
fn convolutions() {
    for seed in 0..150 {
        let r = &mut Random(seed);
        let groups = [1, 1, 1, 2, 4][r.below(5)];
        let (ci, co) = (groups * r.within(1, 20), groups * r.within(1, 40));
        let (kh, kw) = (r.within(1, 4), r.within(1, 4));
        let (dh, dw) = (r.within(1, 2), r.within(1, 2));
        let (h, w) = (r.within(8, 14), r.within(8, 14));
        let pads: Vec<String> = (0..4).map(|_| r.below(3).to_string()).collect();
        let (n, sh, sw) = (r.within(1, 2), r.within(1, 3), r.within(1, 3));
        let activation = r.pick(&["Relu", "Sigmoid", "Gelu", "HardSwish", "Tanh", "Softplus", "Identity", "Neg"]);
        check(
            &format!(
                "opset 20
            input x f32 {n}x{ci}x{h}x{w}
            const w f32 {co}x{}x{kh}x{kw} random
            const b f32 {co} random
            c = Conv(x, w, b) group={groups} strides=[{sh},{sw}] dilations=[{dh},{dw}] pads=[{}]
            y = {activation}(c)
            output y",
                ci / groups,
                pads.join(",")
            ),
            seed,
        );
    }
}

/// Tiles of four by four results divide by up to 24 and multiply by up to 8.
const LARGE_TILES: f64 = 5e-6;

/// Those that are computed by minimal filtering: borders, odd extents, several images, residuals, steps of two, three taps along one dimension.
#[test]
fn convolutions_by_minimal_filtering() {
    for seed in 0..150 {
        let r = &mut Random(seed);
        let (ci, co) = ([32, 48, 64, 144][r.below(4)], r.within(32, 100));
        let (n, h, w) = (r.within(1, 2), r.within(3, 17), r.within(3, 17));
        let pads: Vec<usize> = (0..4).map(|_| r.below(3)).collect();
        let [kh, kw] = if seed < 90 { [3, 3] } else { [[1, 3], [3, 1]][r.below(2)] };
        let step = match seed {
            0..60 => [1, 1],
            60..90 => [2, 2],
            _ => [kh, kw].map(|taps| if taps == 1 { r.within(1, 2) } else { 1 }),
        };
        let [tall, wide] = [(h + pads[0] + pads[2] - kh) / step[0] + 1, (w + pads[1] + pads[3] - kw) / step[1] + 1];
        let pads: Vec<String> = pads.iter().map(ToString::to_string).collect();
        let residual = if r.below(2) == 0 { "s = Add(c, z)" } else { "s = Mul(c, z)" };
        check_to(
            LARGE_TILES,
            Precision::Fp32,
            &format!(
                "opset 20
            input i f32 {n}x{h}x{w}x{ci}
            input j f32 {n}x{tall}x{wide}x{co}
            x = Transpose(i) perm=[0,3,1,2]
            z = Transpose(j) perm=[0,3,1,2]
            const w f32 {co}x{ci}x{kh}x{kw} random
            const b f32 {co} random
            c = Conv(x, w, b) strides=[{},{}] pads=[{}]
            {residual}
            t = Relu(s)
            y = Transpose(t) perm=[0,2,3,1]
            output y",
                step[0],
                step[1],
                pads.join(",")
            ),
            seed,
        );
    }
}

#[test]
fn depthwise_convolutions() {
    for seed in 0..120 {
        let r = &mut Random(seed);
        let c = [2, 3, 8, 15, 16, 17, 32, 33, 48, 70, 130][r.below(11)];
        let (kh, kw, s) = (r.within(1, 7), r.within(1, 7), r.within(1, 2));
        let (n, h, w, d) = (r.within(1, 2), r.within(7, 17), r.within(7, 17), [1, 1, 1, 2][r.below(4)]);
        let pads: Vec<String> = [kh, kw, kh, kw].map(|k| (k / 2 * d).to_string()).into();
        check(
            &format!(
                "opset 13
            input x f32 {n}x{c}x{h}x{w}
            const w f32 {c}x1x{kh}x{kw} random
            const b f32 {c} random
            c = Conv(x, w, b) group={c} strides=[{s},{s}] dilations=[{d},{d}] pads=[{}]
            y = Clip(c, low, high)
            const low f32 - = -0.5
            const high f32 - = 0.5
            output y",
                pads.join(",")
            ),
            seed,
        );
    }
}

/// Channels that are shuffled between convolutions: what reads them wants them as neighbours, and a result of the model in order.
#[test]
fn shuffled_channels() {
    for seed in 0..40 {
        let r = &mut Random(seed);
        let (groups, each) = (r.within(2, 4), r.within(2, 20));
        let (c, n, h, w) = (groups * each, r.within(1, 2), r.within(3, 12), r.within(3, 12));
        let half = c / 2;
        let read = [
            format!("const d f32 {c}x1x3x3 random\ny = Conv(v, d) group={c} pads=[1,1,1,1] strides=[2,2]\noutput y"),
            format!("const d f32 7x{c}x1x1 random\ny = Conv(v, d)\noutput y\noutput v"),
            format!(
                "p, q = Split(v, s) axis=1\nconst s i64 2 = {half} {}\nconst d f32 9x{half}x1x1 random\ny = Conv(p, d)\nz = Relu(q)\noutput y\noutput z",
                c - half
            ),
        ];
        check(
            &format!(
                "opset 18
            input x f32 {n}x{c}x{h}x{w}
            const w f32 {c}x{c}x1x1 random
            a = Conv(x, w)
            const to i64 5 = {n} {groups} {each} {h} {w}
            t = Reshape(a, to)
            u = Transpose(t) perm=[0,2,1,3,4]
            const back i64 4 = {n} {c} {h} {w}
            v = Reshape(u, back)
            {}",
                read[r.below(3)]
            ),
            seed,
        );
    }
}

/// Expansion, depthwise convolution and projection, whose intermediates are large enough to be made by bands.
#[test]
fn inverted_residuals() {
    for seed in 0..40 {
        let r = &mut Random(seed);
        // In a quarter of the cases pixels lie a line further apart than they are long.
        let wide = if r.below(4) == 0 { 512 } else { r.within(70, 100) };
        let (c, co) = (r.within(3, 24), r.within(8, 40));
        let (h, w) = if wide == 512 { (r.within(17, 20), r.within(17, 20)) } else { (r.within(45, 50), r.within(45, 50)) };
        let n = r.within(1, 2);
        let (k, s, d) = ([3, 5][r.below(2)], r.within(1, 2), [1, 1, 2][r.below(3)]);
        let pad = k / 2 * d;
        // The first product with a window of its own, or none.
        let (first, k0) = [("p = Conv(x, u, a)", 1), ("p = Conv(x, u, a) pads=[1,0,1,0]", 3), ("p = Identity(x)", 0)][r.below(3)];
        let (k0, c) = if k0 == 0 { (1, wide) } else { (k0, if k0 == 3 { 3 } else { c }) };
        let residual = if s == 1 && c == wide && k0 == 1 { "t = Add(q, z)" } else { "t = Identity(q)" };
        let co = if residual.starts_with("t = Add") { wide } else { co };
        let (limit, precision) = if seed % 3 == 2 { (1e-2, Precision::Bf16) } else { (2e-6, Precision::Fp32) };
        check_to(
            limit,
            precision,
            &format!(
                "opset 13
            input x f32 {n}x{c}x{h}x{w}
            const u f32 {wide}x{c}x{k0}x1 random
            const a f32 {wide} random
            const v f32 {wide}x1x{k}x{k} random
            const b f32 {wide} random
            const o f32 {co}x{wide}x1x1 random
            const e f32 {co} random
            const low f32 - = -0.5
            const high f32 - = 0.5
            {first}
            f = Clip(p, low, high)
            g = Conv(f, v, b) group={wide} strides=[{s},{s}] dilations=[{d},{d}] pads=[{pad},{pad},{pad},{pad}]
            i = Clip(g, low, high)
            q = Conv(i, o, e)
            z = Neg(x)
            {residual}
            y = Relu(t)
            output y"
            ),
            seed,
        );
    }
}

#[test]
fn transposed_convolutions_and_other_ranks() {
    for seed in 0..40 {
        let r = &mut Random(seed);
        let (ci, co, k, s) = (r.within(1, 9), r.within(1, 20), r.within(1, 4), r.within(1, 3));
        check(
            &format!(
                "input x f32 1x{ci}x5x6\nconst w f32 {ci}x{co}x{k}x{k} random\ny = ConvTranspose(x, w) strides=[{s},{s}] dilations=[{},1]\noutput y",
                r.within(1, 2)
            ),
            seed,
        );
        check(&format!("input x f32 2x{ci}x19\nconst w f32 {co}x{ci}x{k} random\ny = Conv(x, w) strides=[{s}] pads=[1,1]\noutput y"), seed);
        check(
            &format!("input x f32 1x{ci}x5x6x7\nconst w f32 {co}x{ci}x2x2x{k} random\ny = Conv(x, w) pads=[0,1,1,0,1,1]\noutput y"),
            seed,
        );
    }
}
