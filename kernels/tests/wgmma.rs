//! Contractions by warpgroups: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::contractions::{convolution, product};
use support::{Random, assemble, check_of};
use wpk_kernels::arch::Arch;
use wpk_kernels::family::{Bulk, Product, Strict, Wgmma, bulk, strict, wgmma};
use wpk_kernels::schedule::Schedule;
use wpk_plan::problem::Problem;
use wpk_plan::{DType, WeightLayout};

/// The architecture with so few multiprocessors that small problems are large.
fn small() -> Arch {
    Arch { sms: 2, ..*Arch::named("sm_90a").expect("an architecture") }
}

/// Random contractions whose factors lie along the depth.
fn cases<S: Schedule<Problem = Product>>(count: usize, arch: &Arch) -> Vec<(u64, Product, Vec<S>)> {
    let case = |seed: u64| {
        let r = &mut Random(seed);
        let factors = [(DType::F16, false), (DType::BF16, false), (DType::F32, true), (DType::F32, false)][seed as usize % 4];
        let contraction = if r.below(2) == 0 { product(r, factors) } else { convolution(r, factors) };
        let packed = if seed % 4 == 3 { WeightLayout::Panels16 } else { WeightLayout::Columns };
        let p = Product { contraction, layout: if seed.is_multiple_of(5) { WeightLayout::Dense } else { packed } };
        let facts = S::facts(&p, arch);
        let legal: Vec<S> = S::space().filter(|s| s.legal(&facts)).collect();
        (!legal.is_empty()).then_some((seed, p, legal))
    };
    (0..).filter_map(case).take(count).collect()
}

#[test]
fn random_contractions_agree_with_the_evaluator() {
    let arch = Arch::named("sm_90a").expect("an architecture");
    for (seed, p, legal) in cases::<Wgmma>(40, arch) {
        let s = legal[Random(seed + 99).below(legal.len())];
        let kernel = wgmma(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        check_of(&Problem::Contraction(p.contraction), p.layout, &kernel, seed);
    }
}

#[test]
fn schedules_are_assembled_without_spills() {
    let arch = Arch::named("sm_90a").expect("an architecture");
    for (seed, p, legal) in cases::<Wgmma>(16, arch) {
        for s in [Wgmma::heuristic(&p, arch).expect("a schedule"), legal[Random(seed + 7).below(legal.len())]] {
            assemble(&wgmma(&p, &s, arch).unwrap_or_else(|e| panic!("{e}")), arch);
        }
    }
}

#[test]
fn large_contractions_agree_with_the_evaluator() {
    let arch = &small();
    for (seed, p, legal) in cases::<Bulk>(60, arch) {
        let s = legal[Random(seed + 99).below(legal.len())];
        let kernel = bulk(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        check_of(&Problem::Contraction(p.contraction), p.layout, &kernel, seed);
    }
}

#[test]
fn schedules_of_large_ones_are_assembled_without_spills() {
    let arch = &small();
    for (seed, p, legal) in cases::<Bulk>(16, arch) {
        assemble(&bulk(&p, &legal[Random(seed + 7).below(legal.len())], arch).unwrap_or_else(|e| panic!("{e}")), arch);
    }
}

#[test]
fn strict_contractions_agree_with_the_evaluator() {
    let arch = Arch::named("sm_90a").expect("an architecture");
    for (seed, p, legal) in cases::<Strict>(40, arch) {
        let s = legal[Random(seed + 99).below(legal.len())];
        let kernel = strict(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        check_of(&Problem::Contraction(p.contraction), p.layout, &kernel, seed);
    }
}

#[test]
fn schedules_of_strict_ones_are_assembled_without_spills() {
    let arch = Arch::named("sm_90a").expect("an architecture");
    for (seed, p, legal) in cases::<Strict>(16, arch) {
        for s in [Strict::heuristic(&p, arch).expect("a schedule"), legal[Random(seed + 7).below(legal.len())]] {
            assemble(&strict(&p, &s, arch).unwrap_or_else(|e| panic!("{e}")), arch);
        }
    }
}

/// Sums that are not finite are computed again.
#[test]
fn strict_contractions_of_what_is_not_finite() {
    let arch = Arch::named("sm_90a").expect("an architecture");
    for (seed, p, legal) in cases::<Strict>(12, arch) {
        let s = legal[Random(seed + 99).below(legal.len())];
        let kernel = strict(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let planted = [(0, f64::INFINITY), (0, f64::NEG_INFINITY), (0, f64::NAN)];
        let outcome = support::outcome_with(&Problem::Contraction(p.contraction), p.layout, &kernel, seed, &planted);
        assert_eq!(outcome, Ok(()), "seed {seed} {s}");
    }
}
