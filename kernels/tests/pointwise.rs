//! Pointwise kernels: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::{Random, assemble, check};
use wpk_kernels::arch::ARCHES;
use wpk_kernels::family::{Pointwise, pointwise};
use wpk_kernels::schedule::Schedule;
use wpk_plan::problem::{Map, Operand, Problem};
use wpk_plan::{Binary, DType, ScalarFn, Unary, View};

const FLOAT: &[Unary] = &[
    Unary::Neg,
    Unary::Abs,
    Unary::Sqrt,
    Unary::Exp,
    Unary::Erf,
    Unary::Tanh,
    Unary::Sigmoid,
    Unary::Floor,
    Unary::Ceil,
    Unary::Round,
    Unary::Recip,
    Unary::Gelu,
    Unary::GeluTanh,
    Unary::Silu,
    Unary::HardSwish,
];

/// A map of two inputs over a small random shape, each dense, broadcast or transposed.
fn random(r: &mut Random) -> Map {
    let rank = r.within(1, 4);
    let shape: Vec<usize> = (0..rank).map(|_| [1, 2, 3, 4, 6, 8, 12, 33][r.below(8)]).collect();
    let dtype = [DType::F32, DType::F32, DType::F16, DType::BF16, DType::I32, DType::I64, DType::U8, DType::I16][r.below(8)];
    let view = |r: &mut Random| match r.below(4) {
        0 => {
            let perm: Vec<usize> = (0..rank).rev().collect();
            View::dense(&perm.iter().map(|&p| shape[p]).collect::<Vec<_>>()).transpose(&perm)
        }
        1 => {
            let d = r.below(rank);
            let narrow: Vec<usize> = shape.iter().enumerate().map(|(i, &n)| if i == d { 1 } else { n }).collect();
            View::dense(&narrow).broadcast(&shape).unwrap_or_else(|| View::dense(&shape))
        }
        _ => View::dense(&shape),
    };
    let mut f = ScalarFn::default();
    let (x, y) = (f.input(0, dtype), f.input(1, dtype));
    let mut value = f.binary([Binary::Add, Binary::Sub, Binary::Mul, Binary::Max, Binary::Min][r.below(5)], x, y);
    if !dtype.is_float() && r.below(2) == 0 {
        value = f.binary([Binary::Div, Binary::Rem, Binary::Mod][r.below(3)], value, y);
    }
    if dtype == DType::F32 {
        value = f.unary(FLOAT[r.below(FLOAT.len())], value);
    }
    let less = f.binary([Binary::Lt, Binary::Le, Binary::Eq][r.below(3)], value, y);
    value = f.select(less, value, x);
    let out = if r.below(3) == 0 { [DType::F32, DType::I32, DType::I64, DType::U8, DType::Bool, DType::F16][r.below(6)] } else { dtype };
    value = f.cast(value, out);
    if r.below(3) == 0 && out == DType::I64 {
        let at = f.index(r.below(rank));
        value = f.binary(Binary::Add, value, at);
    }
    f.outputs = vec![value];
    let inputs = vec![Operand { dtype, view: view(r) }, Operand { dtype, view: view(r) }];
    let output = Operand { dtype: out, view: View::dense(&shape) };
    Map { shape, inputs, function: f, outputs: vec![output] }
}

#[test]
fn random_maps_agree_with_the_evaluator() {
    for seed in 0..400 {
        let r = &mut Random(seed);
        let map = random(r);
        let arch = &ARCHES[seed as usize % 2];
        let legal: Vec<Pointwise> = Pointwise::space().filter(|s| s.legal(&Pointwise::facts(&map, arch))).collect();
        let schedule = legal[r.below(legal.len())];
        let kernel = pointwise(&map, &schedule, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        check(&Problem::Map(map), &kernel, seed);
    }
}

#[test]
fn every_function_is_assembled_for_every_architecture() {
    let mut maps: Vec<Map> = (0..12).map(|seed| random(&mut Random(seed))).collect();
    maps.extend(FLOAT.iter().map(|&u| {
        let mut f = ScalarFn::default();
        let x = f.input(0, DType::F32);
        let y = f.unary(u, x);
        f.outputs = vec![y];
        let dense = Operand::dense(DType::F32, &[64, 36]);
        Map { shape: vec![64, 36], inputs: vec![dense.clone()], function: f, outputs: vec![dense] }
    }));
    for arch in ARCHES {
        for map in &maps {
            let kernel = pointwise(map, &Pointwise::heuristic(map, arch).expect("a schedule"), arch).unwrap_or_else(|e| panic!("{e}"));
            assemble(&kernel, arch);
        }
    }
}

#[test]
fn the_text_of_a_kernel() {
    let mut f = ScalarFn::default();
    let x = f.input(0, DType::F32);
    let zero = f.constant(0.0, DType::F32);
    let y = f.binary(Binary::Max, x, zero);
    f.outputs = vec![y];
    let dense = Operand::dense(DType::F32, &[4, 100]);
    let map = Map { shape: vec![4, 100], inputs: vec![dense.clone()], function: f, outputs: vec![dense] };
    let kernel = pointwise(&map, &Pointwise { threads: 128, vector: 4 }, &ARCHES[1]).unwrap_or_else(|e| panic!("{e}"));
    let text = kernel.text(&ARCHES[1]);
    let count = |what: &str| text.matches(what).count();
    assert!(text.starts_with(".version 7.0\n.target sm_80\n"), "{text}");
    assert_eq!((count("ld.global.v4.f32"), count("st.global.v4.f32"), count("max.NaN.f32"), count("div")), (1, 1, 4, 0), "{text}");
    assert_eq!((kernel.blocks, kernel.params), (1, 2));
}
