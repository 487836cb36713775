//! Products by weights that are levels with scales: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::{Random, assemble};
use wpk_kernels::arch::{ARCHES, Arch};
use wpk_kernels::emulate::{Moment, run_with};
use wpk_kernels::family::{heuristic, spaces};
use wpk_kernels::ptx::Kernel;
use wpk_kernels::{Data, Rounding, Tensor, eval};
use wpk_plan::problem::{Access, Affine, BLOCK, Contraction, Operand, Problem};
use wpk_plan::{Binary, DType, ScalarFn, View, WeightLayout};

const LAYOUTS: [WeightLayout; 5] =
    [WeightLayout::Bytes16, WeightLayout::Nibbles16, WeightLayout::E4m3x16, WeightLayout::E5m2x16, WeightLayout::E2m1x16];

/// A product with what its second factor is made of.
struct Case {
    c: Contraction,
    layout: WeightLayout,
    panels: Vec<u8>,
    /// Both factors and a bias, as numbers.
    operands: Vec<Tensor>,
}

fn random(seed: u64) -> Case {
    let r = &mut Random(seed);
    let layout = LAYOUTS[r.below(LAYOUTS.len())];
    let dtype = [DType::F32, DType::F16, DType::BF16][r.below(3)];
    let (m, n, depth) = (r.within(1, 16), r.within(1, 40), 4 * r.within(1, 100));
    let turned = r.below(2) == 0;
    let (rows, at) = if turned { ([n, depth], [1, 2]) } else { ([depth, n], [2, 1]) };
    let b = Access::new(&View::dense(&rows), at.into_iter().map(Affine::of).collect());
    let a = Access::new(&View::dense(&[m, depth]), [0, 2].into_iter().map(Affine::of).collect());
    let mut epilogue = ScalarFn::default();
    let (x, bias) = (epilogue.input(0, DType::F32), epilogue.input(1, DType::F32));
    let y = epilogue.binary(Binary::Add, x, bias);
    epilogue.outputs = vec![epilogue.cast(y, dtype)];
    let bias = Operand { dtype: DType::F32, view: View { offset: 0, shape: vec![m, n], strides: vec![0, 1] } };
    let out = Operand::dense(dtype, &[m, n]);
    let c = Contraction {
        space: vec![m, n, depth],
        outer: 2,
        dtype,
        given: dtype,
        tf32: false,
        a,
        b,
        sum: DType::F32,
        extras: vec![bias],
        epilogue,
        out,
    };
    let bits = layout.levels().expect("levels");
    // Not what is no finite number.
    let codes: Vec<u8> = (0..depth * n)
        .map(|_| {
            loop {
                let code = r.below(1 << bits) as u8;
                if layout.number(code).is_finite() {
                    break code;
                }
            }
        })
        .collect();
    let most = codes.iter().map(|&code| layout.number(code).abs()).fold(0.0, f32::max).max(1e-9);
    let scales: Vec<f32> = (0..depth.div_ceil(BLOCK) * n).map(|_| 0.08 * r.within(1, 50) as f32 / most).collect();
    let place = |i: usize| if turned { (i % depth, i / depth) } else { (i / n, i % n) };
    let by = |i: usize| {
        let (row, column) = place(i);
        scales[row / BLOCK * n + column]
    };
    let signed = |code: u8| f32::from(if bits == 4 { (code << 4) as i8 >> 4 } else { code as i8 });
    let levels: Vec<f32> = codes.iter().map(|&code| signed(code)).collect();
    let all: Vec<f32> = (0..codes.len()).map(by).collect();
    let panels = c.roles().levels(&c.b, &levels, &all, bits).expect("they are packed");
    let numbers = codes.iter().zip(&all).map(|(&code, s)| f64::from(layout.number(code)) * f64::from(*s)).collect();
    let mut float = |n: usize| (0..n).map(|_| r.next() as f64 / f64::from(1u32 << 31) * 4.0 - 2.0).collect();
    let tensor = |dtype: DType, data: Vec<f64>| Tensor::from_bytes(dtype, &Tensor { dtype, data: Data::Float(data) }.to_bytes());
    let (first, bias) = (tensor(dtype, float(m * depth)), tensor(DType::F32, float(n)));
    Case { layout, panels, operands: vec![first, Tensor { dtype, data: Data::Float(numbers) }, bias], c }
}

fn check(case: &Case, kernel: &Kernel, seed: u64) {
    assert_eq!(kernel.verify(), Vec::<String>::new(), "seed {seed}");
    let expected = eval(&Problem::Contraction(case.c.clone()), &case.operands.iter().collect::<Vec<_>>(), Rounding::Never).remove(0);
    let out = vec![0xa5; expected.len() * case.c.out.dtype.bytes()];
    let mut buffers = vec![case.operands[0].to_bytes(), case.panels.clone(), case.operands[2].to_bytes(), out];
    let moment = if seed.is_multiple_of(2) { Moment::Earliest } else { Moment::Latest };
    run_with(kernel, &mut buffers, moment, seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    let found = Tensor::from_bytes(case.c.out.dtype, &buffers[3]);
    let depth = case.c.space[2] as f64;
    let unit = match case.c.out.dtype {
        DType::F16 => 1.0 / 2048.0,
        DType::BF16 => 1.0 / 256.0,
        _ => 0.0,
    };
    for i in 0..expected.len() {
        let (x, y) = (found.f(i), expected.f(i));
        // Products of at most 2 by 4, and a rounding of the result.
        let bound = unit * y.abs() + 8.0 * depth * (depth + 3.0).sqrt() * f64::from(f32::EPSILON);
        assert!((x - y).abs() <= bound, "seed {seed}: element {i} of {:?} by {} is {x} instead of {y}", case.c.space, case.layout);
    }
}

#[test]
fn random_products_agree_with_the_evaluator() {
    for seed in 0..80 {
        let (case, arch) = (random(seed), &ARCHES[seed as usize % ARCHES.len()]);
        let problem = Problem::Contraction(case.c.clone());
        let made = heuristic(&problem, case.layout, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        check(&case, &made.kernel, seed);
        let space = spaces(&problem, case.layout, arch).remove(0);
        let legal = space.all();
        let values = &legal[Random(seed).below(legal.len())].values;
        check(&case, &space.generate(values).unwrap_or_else(|e| panic!("seed {seed}: {e}")).kernel, seed + 1);
    }
}

/// Every schedule, through `ptxas`.
#[test]
fn schedules_are_assembled_without_spills() {
    let made = |arch: &Arch, case: &Case| {
        let problem = Problem::Contraction(case.c.clone());
        let space = spaces(&problem, case.layout, arch).remove(0);
        space.all().iter().map(|s| space.generate(&s.values).unwrap_or_else(|e| panic!("{e}")).kernel).collect::<Vec<_>>()
    };
    for arch in ARCHES {
        let cases = (0..).map(random).filter(|c| c.c.space[0] == 8);
        cases.take(1).flat_map(|case| made(arch, &case)).for_each(|kernel| assemble(&kernel, arch));
    }
}
