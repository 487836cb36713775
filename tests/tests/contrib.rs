//! Operators of ONNX Runtime beside what they stand for, spelled out in standard ones.

use wpk_build::Model;
use wpk_build::graph::evaluate;
use wpk_build::onnx::parse;
use wpk_kernels::{Rounding, Tensor};
use wpk_plan::DType;
use wpk_tests::text;

/// The first result of a model on fixed inputs.
fn result(model: &str) -> Vec<f64> {
    let source = parse(text::bytes(model)).expect("the model is read");
    let compiled = Model::new("m.onnx").build_from(&source).unwrap_or_else(|d| panic!("{d}"));
    let graph = &compiled.graphs[0].0;
    let value = |i: usize, v: usize| ((i * 37 + v * 11) % 19) as f64 / 8.0 - 1.0;
    let tensor = |(v, (_, id)): (usize, &(String, wpk_build::graph::ValueId))| {
        let len = graph.shape(*id).iter().product();
        let floats = || (0..len).map(|i| value(i, v)).collect();
        if graph.dtype(*id).is_float() {
            Tensor::floats(DType::F32, floats())
        } else {
            Tensor::ints(graph.dtype(*id), (0..len).map(|i| i64::from(i % 3 != 2)).collect())
        }
    };
    let inputs: Vec<Tensor> = graph.inputs.iter().enumerate().map(tensor).collect();
    let found = evaluate(graph, &inputs, Rounding::Never);
    (0..found[0].len()).map(|i| found[0].f(i)).collect()
}

#[track_caller]
fn check(header: &str, contrib: &str, standard: &str) {
    let [found, expected] = [contrib, standard].map(|body| result(&format!("opset 20\n{header}\n{body}\noutput y")));
    assert_eq!(found.len(), expected.len());
    for (x, y) in found.iter().zip(&expected) {
        assert!((x - y).abs() <= 1e-6 * (1.0 + y.abs()), "{contrib}: {x} instead of {y}");
    }
    assert!(expected.iter().any(|y| *y != 0.0) && expected.windows(2).any(|w| w[0] != w[1]), "{expected:?} shows nothing");
}

#[test]
fn activations() {
    let header = "input x f32 3x8\nconst b f32 8 random";
    check(header, "y = com.microsoft::Gelu(x)", "y = Gelu(x)");
    check(header, "y = com.microsoft::BiasGelu(x, b)", "s = Add(x, b)\ny = Gelu(s)");
    check(header, "y = com.microsoft::FastGelu(x, b)", "s = Add(x, b)\ny = Gelu(s) approximate=\"tanh\"");
    check(header, "y = com.microsoft::QuickGelu(x) alpha=1.0", "s = Sigmoid(x)\ny = Mul(x, s)");
}

#[test]
fn products() {
    let header = "input a f32 2x5x3\ninput b f32 2x4x5\nconst half f32 1 = 0.5";
    let standard = "s = Transpose(a) perm=[0,2,1]\nt = Transpose(b) perm=[0,2,1]\nm = MatMul(s, t)\ny = Mul(m, half)";
    check(header, "y = com.microsoft::FusedMatMul(a, b) transA=1 transB=1 alpha=0.5", standard);
    // Two columns of 16 in blocks of 8: every element 8, which stands for zero, but the first of each block.
    let bytes = "137 136 136 136 138 136 136 136 139 136 136 136 140 136 136 136";
    let header =
        format!("input a f32 3x16\nconst w u8 2x2x4 = {bytes}\nconst s f32 4 = 1 2 4 8\nconst first i64 1 = 0\nconst eighth i64 1 = 8");
    let standard =
        "const v f32 2x2 = 1 12 4 32\nx = Gather(a, first) axis=1\nz = Gather(a, eighth) axis=1\nc = Concat(x, z) axis=1\ny = MatMul(c, v)";
    check(&header, "y = com.microsoft::MatMulNBits(a, w, s) K=16 N=2 bits=4 block_size=8", standard);
}

/// Blocks of 32 with a scale each stay levels in the plan: of four bits, or of eight where zero points or bits ask for it.
#[test]
fn products_by_levels() {
    for (bits, zeros, layout, depth, columns) in [
        (4, "", "nibbles16", 64, 20),
        (4, "", "nibbles16", 1280, 33),
        (4, ", z", "bytes16", 96, 16),
        (8, "", "bytes16", 64, 50),
        (4, "", "nibbles16", 32, 1),
    ] {
        let (blocks, bytes) = (depth / 32, 32 * bits / 8);
        let row = (blocks * bits as usize).div_ceil(8);
        let header = format!(
            "input a f32 3x{depth}\nconst w u8 {columns}x{blocks}x{bytes} random\nconst s f32 {} random\nconst z u8 {} random",
            columns * blocks,
            columns * row
        );
        let model =
            format!("{header}\ny = com.microsoft::MatMulNBits(a, w, s{zeros}) K={depth} N={columns} bits={bits} block_size=32\noutput y");
        let source = parse(text::bytes(&model)).expect("the model is read");
        let compiled = Model::new("m.onnx").build_from(&source).unwrap_or_else(|d| panic!("{d}"));
        let sections = &compiled.program.sections;
        assert_eq!(sections.iter().map(|s| s.layout.to_string()).collect::<Vec<_>>(), [layout], "{model}");
        wpk_tests::beside::check(&model, 1);
    }
}

#[test]
fn normalizations() {
    let header = "input x f32 2x3x8\ninput s f32 2x3x8\nconst g f32 8 random\nconst b f32 8 random\nconst c f32 8 random";
    let sum = "a = Add(x, s)\nt = Add(a, c)";
    check(
        header,
        "y = com.microsoft::SkipLayerNormalization(x, s, g, b, c) epsilon=0.001",
        &format!("{sum}\ny = LayerNormalization(t, g, b) epsilon=0.001"),
    );
    let squares = "q = Mul(a, a)\nm = ReduceMean(q, last)\nn = Sqrt(m)\nr = Div(a, n)\ny = Mul(r, g)";
    let header = format!("{header}\nconst last i64 1 = -1");
    check(&header, "y = com.microsoft::SkipSimplifiedLayerNormalization(x, s, g) epsilon=0.0", &format!("a = Add(x, s)\n{squares}"));
    check(&header, "y = SimplifiedLayerNormalization(x, g) epsilon=0.0", &format!("a = Identity(x)\n{squares}"));
}

#[test]
fn attention() {
    let header = "input q f32 2x3x8\ninput k f32 2x5x8\ninput v f32 2x5x8\ninput m i32 2x5\nconst split i64 4 = 0 0 2 4\nconst join i64 3 = 0 0 8\nconst zero i32 1 = 0\nconst low f32 1 = -10000\nconst none f32 1 = 0\nconst mask i64 4 = 2 1 1 5\nconst half f32 1 = 0.5";
    let standard = "a = Reshape(q, split)\nb = Transpose(a) perm=[0,2,1,3]\nc = Reshape(k, split)\nd = Transpose(c) perm=[0,2,3,1]
        e = Reshape(v, split)\nf = Transpose(e) perm=[0,2,1,3]\ng = MatMul(b, d)\nh = Mul(g, half)
        i = Equal(m, zero)\nj = Where(i, low, none)\nl = Reshape(j, mask)\no = Add(h, l)\np = Softmax(o) axis=-1
        r = MatMul(p, f)\ns = Transpose(r) perm=[0,2,1,3]\ny = Reshape(s, join)";
    check(header, "y = com.microsoft::MultiHeadAttention(q, k, v, , m) num_heads=2", standard);
}
