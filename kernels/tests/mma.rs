//! Contractions on tensor cores: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::contractions::{convolution, product};
use support::{Random, assemble, check_of};
use wpk_kernels::arch::{ARCHES, Arch};
use wpk_kernels::family::{Mma, Product, mma};
use wpk_kernels::schedule::Schedule;
use wpk_plan::problem::Problem;
use wpk_plan::{DType, WeightLayout};

/// The factors of a case: type, TF32, and the layout of the second.
const MODES: &[(DType, bool, WeightLayout)] = &[
    (DType::F16, false, WeightLayout::Dense),
    (DType::F16, false, WeightLayout::Columns),
    (DType::BF16, false, WeightLayout::Columns),
    (DType::F32, true, WeightLayout::Dense),
    (DType::F32, true, WeightLayout::Columns),
    (DType::F32, false, WeightLayout::Panels16),
    (DType::F32, false, WeightLayout::Dense),
];

fn random(seed: u64) -> Product {
    let (dtype, tf32, layout) = MODES[seed as usize % MODES.len()];
    let r = &mut Random(seed);
    let contraction = if r.below(2) == 0 { product(r, (dtype, tf32)) } else { convolution(r, (dtype, tf32)) };
    Product { contraction, layout }
}

#[test]
fn random_contractions_agree_with_the_evaluator() {
    let arch = Arch::named("sm_80").expect("an architecture");
    for seed in 0..84 {
        let p = random(seed);
        let facts = Mma::facts(&p, arch);
        let legal: Vec<Mma> = Mma::space().filter(|s| s.legal(&facts)).collect();
        let s = legal[Random(seed + 99).below(legal.len())];
        let kernel = mma(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let Product { contraction, layout } = p;
        check_of(&Problem::Contraction(contraction), layout, &kernel, seed);
    }
}

/// Bytes along the depth of both factors, as weights in columns and channels last have them.
#[test]
fn products_of_bytes_agree_with_the_evaluator() {
    let arch = Arch::named("sm_80").expect("an architecture");
    let (mut split, mut cases) = (0, [0, 0]);
    for seed in 0..400 {
        let r = &mut Random(seed);
        let of = (seed % 2) as usize;
        let contraction = if of == 0 { product(r, (DType::I8, false)) } else { convolution(r, (DType::I8, false)) };
        let p = Product { contraction, layout: WeightLayout::Columns };
        let facts = Mma::facts(&p, arch);
        let legal: Vec<Mma> = Mma::space().filter(|s| s.legal(&facts)).collect();
        if legal.is_empty() || cases[of] == 30 {
            continue;
        }
        cases[of] += 1;
        let s = legal[Random(seed + 99).below(legal.len())];
        split += usize::from(s.split > 1);
        let kernel = mma(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let best = Mma::heuristic(&p, arch).expect("a schedule");
        assemble(&mma(&p, &best, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}")), arch);
        let Product { contraction, layout } = p;
        check_of(&Problem::Contraction(contraction), layout, &kernel, seed);
    }
    assert_eq!(cases, [30, 30]);
    assert!(split > 2, "{split}");
}

#[test]
fn heuristic_schedules_are_assembled_without_spills() {
    for arch in ARCHES {
        for seed in 0..14 {
            let p = random(seed);
            match Mma::heuristic(&p, arch) {
                Some(s) => assemble(&mma(&p, &s, arch).unwrap_or_else(|e| panic!("{e}")), arch),
                None => assert_eq!(arch.matrix, 0.0, "{} has no schedule", arch.target),
            }
        }
    }
}

/// Infinite factors, and what is not a number, give what products in `f32` give.
#[test]
fn factors_that_are_not_finite_agree_with_the_evaluator() {
    let arch = Arch::named("sm_80").expect("an architecture");
    for seed in 0..12 {
        let r = &mut Random(seed);
        let mut planted = vec![(0, f64::INFINITY), (0, f64::NEG_INFINITY), (0, f64::from_bits(0x7fff_ffff_ffff_ffff))];
        let contraction = if r.below(2) == 0 {
            planted.extend([(1, f64::INFINITY), (1, f64::NEG_INFINITY)]);
            product(r, (DType::F32, false))
        } else {
            // Padding is zero to a kernel, and nothing to the evaluator: weights stay finite.
            convolution(r, (DType::F32, false))
        };
        let p = Product { contraction, layout: WeightLayout::Dense };
        let facts = Mma::facts(&p, arch);
        let legal: Vec<Mma> = Mma::space().filter(|s| s.legal(&facts)).collect();
        let s = legal[Random(seed + 99).below(legal.len())];
        let kernel = mma(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let problem = Problem::Contraction(p.contraction);
        if let Err(fault) = support::outcome_with(&problem, WeightLayout::Dense, &kernel, seed, &planted) {
            panic!("seed {seed} {s}: {fault}");
        }
    }
}
