//! Attention: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::{Random, assemble, check};
use wpk_kernels::arch::{ARCHES, Arch};
use wpk_kernels::family::{Flash, Unsupported, attention, wgflash};
use wpk_kernels::ptx::Kernel;
use wpk_kernels::schedule::Schedule;
use wpk_plan::problem::{Attention, Operand, Problem};
use wpk_plan::{DType, View};

const MODES: &[(DType, bool)] = &[(DType::F16, false), (DType::BF16, false), (DType::F32, true), (DType::F32, false)];

fn random(seed: u64) -> Attention {
    let r = &mut Random(seed);
    let (s, t) = (r.within(1, 70), r.within(1, 90));
    let sizes = (s, t, [8, 16, 32, 40, 64, 7][r.below(6)], [8, 16, 32, 64, 5][r.below(5)]);
    of(r, MODES[seed as usize % MODES.len()], sizes)
}

/// Wide heads in half types.
fn wide(seed: u64) -> Attention {
    let r = &mut Random(seed);
    let (s, t) = (r.within(1, 200), r.within(1, 300));
    let sizes = (s, t, [32, 64, 40, 128][r.below(4)], [64, 30, 64, 128][r.below(4)]);
    of(r, MODES[seed as usize % 2], sizes)
}

/// So many queries, keys, elements of a key and of a value.
fn of(r: &mut Random, (dtype, tf32): (DType, bool), (s, t, d, width): (usize, usize, usize, usize)) -> Attention {
    let (b, h) = (r.within(1, 2), r.within(1, 3));
    // Heads before rows, or between rows and elements as a projection leaves them.
    let side = |r: &mut Random, rows: usize, width: usize| {
        let view = match r.below(2) {
            0 => View::dense(&[b, h, rows, width]),
            _ => View::dense(&[b, rows, h, width]).transpose(&[0, 2, 1, 3]),
        };
        Operand { dtype, view }
    };
    let (q, k, v, out) = (side(r, s, d), side(r, t, d), side(r, t, width), side(r, s, width));
    let mask = match r.below(3) {
        0 => None,
        1 => Some(View { offset: 0, shape: vec![b, h, s, t], strides: vec![t as i64, 0, 0, 1] }),
        _ => Some(View::dense(&[b, h, s, t])),
    };
    let mask = mask.map(|view| Operand { dtype: [DType::F32, DType::F16][r.below(2)], view });
    Attention { scale: 1.0 / (d as f64).sqrt(), tf32, q, k, v, mask, out }
}

/// A random legal schedule of each problem, in the emulator and through `ptxas`.
fn agree<S: Schedule<Problem = Attention>>(
    arch: &str,
    problems: impl Iterator<Item = (u64, Attention)>,
    generate: impl Fn(&Attention, &S, &Arch) -> Result<Kernel, Unsupported>,
) {
    let arch = Arch::named(arch).expect("an architecture");
    for (seed, p) in problems {
        let facts = S::facts(&p, arch);
        let legal: Vec<S> = S::space().filter(|s| s.legal(&facts)).collect();
        let s = legal[Random(seed + 7).below(legal.len())];
        let kernel = generate(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        check(&Problem::Attention(p), &kernel, seed);
        assemble(&kernel, arch);
    }
}

#[test]
fn random_attention_agrees_with_the_evaluator() {
    agree("sm_80", (0..64).map(|seed| (seed, random(seed))), attention);
}

#[test]
fn warpgroups_agree_with_the_evaluator() {
    agree("sm_90a", (0..40).map(|seed| (seed, wide(seed))), wgflash);
}

#[test]
fn heuristic_schedules_are_assembled_without_spills() {
    for arch in ARCHES {
        for seed in 0..8 {
            let p = random(seed);
            match Flash::heuristic(&p, arch) {
                Some(s) => assemble(&attention(&p, &s, arch).unwrap_or_else(|e| panic!("{e}")), arch),
                None => assert_eq!(arch.matrix, 0.0, "{} has no schedule", arch.target),
            }
        }
    }
}
