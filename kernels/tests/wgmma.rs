//! Contractions by warpgroups: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::contractions::{convolution, product};
use support::{Random, assemble, check_of};
use wpk_kernels::arch::Arch;
use wpk_kernels::family::{Product, Wgmma, wgmma};
use wpk_kernels::schedule::Schedule;
use wpk_plan::problem::Problem;
use wpk_plan::{DType, WeightLayout};

/// Random contractions whose factors lie along the depth.
fn cases(count: usize, arch: &Arch) -> Vec<(u64, Product, Vec<Wgmma>)> {
    let case = |seed: u64| {
        let r = &mut Random(seed);
        let factors = [(DType::F16, false), (DType::BF16, false), (DType::F32, true)][seed as usize % 3];
        let contraction = if r.below(2) == 0 { product(r, factors) } else { convolution(r, factors) };
        let p = Product { contraction, layout: if seed.is_multiple_of(5) { WeightLayout::Dense } else { WeightLayout::Columns } };
        let facts = Wgmma::facts(&p, arch);
        let legal: Vec<Wgmma> = Wgmma::space().filter(|s| s.legal(&facts)).collect();
        (!legal.is_empty()).then_some((seed, p, legal))
    };
    (0..).filter_map(case).take(count).collect()
}

#[test]
fn random_contractions_agree_with_the_evaluator() {
    let arch = Arch::named("sm_90a").expect("an architecture");
    for (seed, p, legal) in cases(40, arch) {
        let s = legal[Random(seed + 99).below(legal.len())];
        let kernel = wgmma(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        check_of(&Problem::Contraction(p.contraction), p.layout, &kernel, seed);
    }
}

#[test]
fn schedules_are_assembled_without_spills() {
    let arch = Arch::named("sm_90a").expect("an architecture");
    for (seed, p, legal) in cases(16, arch) {
        for s in [Wgmma::heuristic(&p, arch).expect("a schedule"), legal[Random(seed + 7).below(legal.len())]] {
            assemble(&wgmma(&p, &s, arch).unwrap_or_else(|e| panic!("{e}")), arch);
        }
    }
}
