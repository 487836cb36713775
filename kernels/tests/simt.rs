//! Contractions without tensor cores: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::contractions::{convolution, product};
use support::{Random, assemble, check, generated};
use wpk_kernels::arch::ARCHES;
use wpk_kernels::family::{Simt, simt};
use wpk_kernels::ptx::Kernel;
use wpk_kernels::schedule::Schedule;
use wpk_plan::problem::{Contraction, Problem};
use wpk_plan::{DType, WeightLayout};

fn random(seed: u64) -> Contraction {
    let r = &mut Random(seed);
    match seed % 3 {
        0 => product(r, (DType::F32, false)),
        1 => convolution(r, (DType::F32, false)),
        _ => convolution(r, (DType::F16, false)),
    }
}

/// A legal schedule's kernel.
fn chosen(c: &Contraction, seed: u64) -> Kernel {
    generated(c, &ARCHES[seed as usize % 2], Some(seed + 99), |c, s, arch| simt(c, WeightLayout::Dense, s, arch))
}

#[test]
fn random_contractions_agree_with_the_evaluator() {
    for seed in 0..60 {
        let c = random(seed);
        let kernel = chosen(&c, seed);
        check(&Problem::Contraction(c), &kernel, seed);
    }
}

#[test]
fn heuristic_schedules_are_assembled_without_spills() {
    for arch in ARCHES {
        for seed in 0..3 {
            let c = random(seed);
            let schedule = Simt::heuristic(&c, arch).expect("a legal schedule");
            assemble(&simt(&c, WeightLayout::Dense, &schedule, arch).unwrap_or_else(|e| panic!("{e}")), arch);
        }
    }
}
