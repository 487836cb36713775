//! Products in `f32` that machines with tiles make of parts in bfloat16; others make them as they make all.

use wpk_build::onnx::parse;
use wpk_rt::{Device, Weights};
use wpk_tests::beside::{Random, check};
use wpk_tests::text;

/// Products deep enough to be made of parts in bfloat16, where the machine has tiles: as exact as others.
#[test]
fn products_of_parts() {
    for seed in 0..24 {
        let r = &mut Random(seed);
        // Depths of whole tiles and others, of one block and of several.
        let k = [32 * r.within(12, 32), 32 * r.within(33, 100), r.within(400, 1000), r.within(1100, 3200)][seed as usize % 4];
        let (m, n) = (r.within(28, 150), if seed % 8 == 1 { 2090 } else { r.within(60, 200) });
        let product = format!("const w f32 {k}x{n} random\nconst b f32 {n} random\np = MatMul(x, w)\ny = Add(p, b)\noutput y");
        check(&format!("input x f32 {m}x{k}\n{product}"), seed);
        let (ci, co, h) = (r.within(60, 140), r.within(40, 100), r.within(8, 12));
        let convolution = format!("const w f32 {co}x{ci}x3x2 random\nc = Conv(x, w) pads=[1,0,1,1]\ny = Relu(c)\noutput y");
        check(&format!("input x f32 1x{ci}x{h}x{h}\n{convolution}"), seed);
    }
}

/// Such products of more rows than two tiles have and no more than four, which read weights once.
#[test]
fn products_of_parts_of_few_rows() {
    for seed in 0..24 {
        let r = &mut Random(seed);
        let (m, n, k) = (r.within(33, 64), r.within(20, 300), 32 * r.within(6, 100));
        check(&format!("input x f32 {m}x{k}\nconst w f32 {k}x{n} random\np = MatMul(x, w)\ny = Relu(p)\noutput y"), seed);
        let (ci, co) = (32 * r.within(1, 5), r.within(20, 100));
        let convolution = format!("const w f32 {co}x{ci}x3x3 random\ny = Conv(x, w) pads=[1,1,1,1]\noutput y");
        check(&format!("input x f32 1x{ci}x{}x8\n{convolution}", r.within(5, 8)), seed);
    }
}

/// Such products of what is not finite, and of the largest and smallest numbers.
#[test]
fn products_of_parts_of_extremes() {
    const M: usize = 64;
    const N: usize = 96;
    const K: usize = 640;
    let model = format!("input x f32 {M}x{K}\nconst w f32 {K}x{N} random\ny = MatMul(x, w)\noutput y");
    let compiled = wpk_build::Model::new("m.onnx")
        .build_from(&parse(text::bytes(&model)).expect("the model is read"))
        .unwrap_or_else(|d| panic!("{d}"));
    let loaded = wpk_rt::Model::new(compiled.program.clone(), Weights::Owned(compiled.blob.to_bytes()), Device::Cpu).expect("it loads");
    let mut x: Vec<f32> = text::random(7, M * K).into_iter().map(|v| v as f32).collect();
    x[0] = f32::INFINITY;
    x[K + 9] = f32::NEG_INFINITY;
    x[2 * K + 33] = f32::NAN;
    x[3 * K..4 * K].iter_mut().for_each(|v| *v *= 1e35);
    x[4 * K..5 * K].iter_mut().for_each(|v| *v *= 1e-30);
    x[5 * K] = f32::MAX;
    let run = |x: &[f32]| {
        let (bytes, mut out) = (x.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>(), vec![0u8; M * N * 4]);
        loaded.run(0, &[&bytes], &mut [&mut out]).expect("it runs");
        out.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect::<Vec<_>>()
    };
    // The weights, column by column.
    let mut weights = vec![0.0; K * N];
    for k in 0..K {
        let mut one = vec![0.0; M * K];
        one[k] = 1.0;
        run(&one)[..N].iter().enumerate().for_each(|(n, &w)| weights[n * K + k] = w);
    }
    for (at, found) in run(&x).into_iter().enumerate() {
        let (row, column) = (&x[at / N * K..][..K], &weights[at % N * K..][..K]);
        let terms = || row.iter().zip(column).map(|(x, w)| f64::from(*x) * w);
        let (sum, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
        let close = (found - sum).abs() <= 1e-6 * size || found == sum || found.is_nan() && sum.is_nan();
        assert!(close, "row {} column {}: {found} instead of {sum}", at / N, at % N);
    }
}
