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

/// Functions that are sensitive to what their argument lost, or no numbers.
const OTHERS: &[Unary] = &[
    Unary::Log,
    Unary::Softplus,
    Unary::Sin,
    Unary::Cos,
    Unary::Tan,
    Unary::Asin,
    Unary::Acos,
    Unary::Atan,
    Unary::Sinh,
    Unary::Cosh,
    Unary::Asinh,
    Unary::Acosh,
    Unary::Atanh,
    Unary::Sign,
    Unary::IsNan,
    Unary::IsPosInf,
    Unary::IsNegInf,
];

/// Types of at most eight bits.
const SMALL: [DType; 6] = [DType::F8E4M3, DType::F8E4M3Fnuz, DType::F8E5M2, DType::F8E5M2Fnuz, DType::F8E8M0, DType::F4E2M1];

/// A map of two inputs over a small random shape, each dense, broadcast or transposed.
fn random(r: &mut Random) -> Map {
    let rank = r.within(1, 4);
    let shape: Vec<usize> = (0..rank).map(|_| [1, 2, 3, 4, 6, 8, 12, 33][r.below(8)]).collect();
    let dtype = match r.below(11) {
        10 => SMALL[r.below(6)],
        n => [DType::F32, DType::F32, DType::F16, DType::BF16, DType::I32, DType::I64, DType::U8, DType::I16, DType::F64, DType::U32][n],
    };
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
    let (mut x, mut y) = (f.input(0, dtype), f.input(1, dtype));
    let inputs = vec![Operand { dtype, view: view(r) }, Operand { dtype, view: view(r) }];
    // Numbers of at most eight bits are only converted.
    let dtype = if SMALL.contains(&dtype) { DType::F32 } else { dtype };
    [x, y] = [x, y].map(|v| f.cast(v, dtype));
    let mut value = f.binary([Binary::Add, Binary::Sub, Binary::Mul, Binary::Max, Binary::Min][r.below(5)], x, y);
    if !dtype.is_float() && r.below(2) == 0 {
        value = f.binary([Binary::Div, Binary::Rem, Binary::Mod, Binary::Pow][r.below(4)], value, y);
    }
    if matches!(dtype, DType::U8 | DType::U32) && r.below(2) == 0 {
        value = f.binary([Binary::Shl, Binary::Shr][r.below(2)], value, y);
    }
    if matches!(dtype, DType::F32 | DType::F64) && r.below(3) == 0 {
        value = f.binary([Binary::Div, Binary::Rem, Binary::Mod, Binary::Pow][r.below(4)], value, y);
    }
    // Of what is rounded, no step depends.
    let rounded = matches!(dtype, DType::F32 | DType::F64);
    if rounded {
        value = f.unary(FLOAT[r.below(FLOAT.len())], value);
        value = f.cast(value, dtype);
    }
    let less = f.binary([Binary::Lt, Binary::Le, Binary::Eq][r.below(3)], if rounded { x } else { value }, y);
    value = f.select(less, value, x);
    let out = if r.below(3) == 0 {
        let all = [
            DType::F32,
            if dtype.is_float() { DType::F16 } else { DType::F64 },
            SMALL[r.below(6)],
            DType::I32,
            DType::I64,
            DType::U8,
            DType::Bool,
        ];
        all[r.below(if rounded { 3 } else { 7 })]
    } else {
        dtype
    };
    value = f.cast(value, out);
    if r.below(3) == 0 && out == DType::I64 {
        let at = f.index(r.below(rank));
        value = f.binary(Binary::Add, value, at);
    }
    f.outputs = vec![value];
    let output = Operand { dtype: out, view: View::dense(&shape) };
    Map { shape, inputs, function: f, outputs: vec![output] }
}

#[test]
fn random_maps_agree_with_the_evaluator() {
    for seed in 0..1200 {
        let r = &mut Random(seed);
        let map = random(r);
        let arch = &ARCHES[seed as usize % 2];
        let legal: Vec<Pointwise> = Pointwise::space().filter(|s| s.legal(&Pointwise::facts(&map, arch))).collect();
        let schedule = legal[r.below(legal.len())];
        let kernel = pointwise(&map, &schedule, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        check(&Problem::Map(map), &kernel, seed);
    }
}

/// A map of one input, or of two where the function takes them.
fn simple(dtype: DType, function: impl FnOnce(&mut ScalarFn, u16, u16) -> u16) -> Map {
    let mut f = ScalarFn::default();
    let (x, y) = (f.input(0, dtype), f.input(1, dtype));
    f.outputs = vec![function(&mut f, x, y)];
    let dense = |dtype| Operand::dense(dtype, &[64, 36]);
    let out = f.dtype(f.outputs[0]);
    Map { shape: vec![64, 36], inputs: vec![dense(dtype), dense(dtype)], function: f, outputs: vec![dense(out)] }
}

/// Every function in single and double precision, of small and of large numbers.
fn functions() -> Vec<Map> {
    let mut maps = vec![];
    for dtype in [DType::F32, DType::F64] {
        for &u in FLOAT.iter().chain(OTHERS) {
            maps.push(simple(dtype, |f, x, _| f.unary(u, x)));
            let large = |f: &mut ScalarFn, x, _| {
                let scale = f.constant(1024.0, dtype);
                let x = f.binary(Binary::Mul, x, scale);
                f.unary(u, x)
            };
            // What overflows in one precision does not in the other.
            if !matches!(u, Unary::Exp | Unary::Sinh | Unary::Cosh) {
                maps.push(simple(dtype, large));
            }
        }
        for b in [Binary::Pow, Binary::Rem, Binary::Mod] {
            maps.push(simple(dtype, |f, x, y| f.binary(b, x, y)));
            let whole = |f: &mut ScalarFn, x, y| {
                let y = f.unary(Unary::Round, y);
                f.binary(b, x, y)
            };
            maps.push(simple(dtype, whole));
        }
    }
    maps
}

#[test]
fn functions_agree_with_the_evaluator() {
    for (seed, map) in functions().into_iter().enumerate() {
        let kernel = pointwise(&map, &Pointwise { threads: 128, vector: 1 }, &ARCHES[1]).unwrap_or_else(|e| panic!("{e}"));
        check(&Problem::Map(map), &kernel, seed as u64);
    }
}

/// Every number of a type comes back, and what lies between is rounded.
#[test]
fn small_floats_agree_with_the_evaluator() {
    for (seed, to) in SMALL.into_iter().enumerate() {
        for from in SMALL.into_iter().chain([DType::F32, DType::F16, DType::BF16, DType::I32]) {
            let map = simple(from, |f, x, y| {
                let (x, y) = (f.cast(x, DType::F32), f.cast(y, DType::F32));
                // From the smallest to beyond the largest.
                let [least, most, scale] = [-4.0, 4.0, 20.0].map(|c| f.constant(c, DType::F32));
                let y = f.binary(Binary::Max, y, least);
                let y = f.binary(Binary::Min, y, most);
                let y = f.binary(Binary::Mul, y, scale);
                let y = f.unary(Unary::Exp, y);
                let zero = f.constant(0.0, DType::F32);
                let plain = f.binary(Binary::Lt, x, zero);
                let product = f.binary(Binary::Mul, x, y);
                let value = f.select(plain, x, product);
                f.cast(value, to)
            });
            let kernel = pointwise(&map, &Pointwise { threads: 128, vector: 1 }, &ARCHES[1]).unwrap_or_else(|e| panic!("{e}"));
            check(&Problem::Map(map), &kernel, seed as u64);
        }
    }
}

#[test]
fn every_function_is_assembled_for_every_architecture() {
    let mut maps: Vec<Map> = (0..24).map(|seed| random(&mut Random(seed))).collect();
    maps.extend(FLOAT.iter().map(|&u| simple(DType::F32, |f, x, _| f.unary(u, x))));
    let made = |map: &Map, arch| {
        let kernel = pointwise(map, &Pointwise::heuristic(map, arch).expect("a schedule"), arch).unwrap_or_else(|e| panic!("{e}"));
        assemble(&kernel, arch);
    };
    ARCHES.iter().for_each(|arch| maps.iter().for_each(|map| made(map, arch)));
    functions().iter().for_each(|map| made(map, &ARCHES[0]));
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
