//! Convolutions from what their windows share: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::contractions::finish;
use support::{Random, assemble, check_of, outcome_with};
use wpk_kernels::arch::Arch;
use wpk_kernels::family::{Halo, Packed, Pairs, Product, Simt, Unsupported, halo, packed, pairs, simt};
use wpk_kernels::ptx::Kernel;
use wpk_kernels::schedule::Schedule;
use wpk_plan::problem::{Access, Affine, Contraction, Problem};
use wpk_plan::{DType, View, WeightLayout};

/// The factors of a case: type, TF32, and the layout of the second.
const MODES: &[(DType, bool, WeightLayout)] = &[
    (DType::F16, false, WeightLayout::Columns),
    (DType::F32, true, WeightLayout::Columns),
    (DType::F32, false, WeightLayout::Panels16),
    (DType::BF16, false, WeightLayout::Columns),
];

/// A convolution of images with channels last, of few channels in a third of the cases.
fn random(seed: u64) -> Product {
    let (dtype, tf32, layout) = MODES[seed as usize % MODES.len()];
    let r = &mut Random(seed);
    let few = r.below(2) == 0 && layout == WeightLayout::Columns;
    let ci = if few { 4 } else { [16, 32, 64][r.below(3)] };
    // Of few channels some may lack, and lie in planes of their own, in `f32`.
    let (lacks, planes) = (few && r.below(2) == 0, r.below(2) == 0);
    let (co, images) = ([16, 24, 32, 40, 64][r.below(5)], r.within(1, 2));
    let (kh, kw, stride) = match few {
        true => [(7, 7, 2), (3, 3, 2), (5, 4, 2)][r.below(3)],
        false => (r.within(1, 3), r.within(2, 3), r.within(1, 2)),
    };
    let dilation = if few { 1 } else { r.within(1, 2) as i64 };
    let (h, w, pad) = (r.within(6, 19), r.within(6, 19), r.below(3) as i64);
    let (oh, ow) = (h.div_ceil(stride), w.div_ceil(stride));
    // Loops: image, row, column, channel out; channel in, window row, window column.
    let along = |o: u8, k: u8| Affine { offset: -pad, terms: vec![(o, stride as i64), (k, dilation)], divisor: 1 };
    if lacks {
        let view = if planes { View::dense(&[images, 3, h, w]).transpose(&[0, 2, 3, 1]) } else { View::dense(&[images, h, w, 3]) };
        let a = Access::new(&view, vec![Affine::of(0), along(1, 4), along(2, 5), Affine::of(6)]);
        let b = Access::new(&View::dense(&[co, ci, kh, kw]), [3, 6, 4, 5].map(Affine::of).to_vec());
        let contraction = finish(&[images, oh, ow, co, kh, kw, ci], 4, (dtype, tf32), a, b);
        return Product { contraction: Contraction { given: if planes { DType::F32 } else { dtype }, ..contraction }, layout };
    }
    let a = Access::new(&View::dense(&[images, h, w, ci]), vec![Affine::of(0), along(1, 5), along(2, 6), Affine::of(4)]);
    let b = Access::new(&View::dense(&[co, ci, kh, kw]), [3, 4, 5, 6].map(Affine::of).to_vec());
    Product { contraction: finish(&[images, oh, ow, co, ci, kh, kw], 4, (dtype, tf32), a, b), layout }
}

/// One of few channels in strict `f32` by steps of two pixels, channels last or in planes.
fn strict(seed: u64) -> Product {
    let r = &mut Random(seed);
    let (ci, co, images) = (r.within(2, 4), [16, 24, 32, 40, 64][r.below(5)], r.within(1, 2));
    let (kh, kw, down) = [(7, 7, 2), (3, 3, 2), (5, 4, 2), (3, 5, 1), (1, 6, 2)][r.below(5)];
    let (h, w, pad) = (r.within(6, 21), r.within(6, 35), r.below(4) as i64);
    let (oh, ow) = (h.div_ceil(down), w.div_ceil(2));
    let along = |o: u8, k: u8, step: usize| Affine { offset: -pad, terms: vec![(o, step as i64), (k, 1)], divisor: 1 };
    let planes = r.below(2) == 0;
    let view = if planes { View::dense(&[images, ci, h, w]).transpose(&[0, 2, 3, 1]) } else { View::dense(&[images, h, w, ci]) };
    let a = Access::new(&view, vec![Affine::of(0), along(1, 5, down), along(2, 6, 2), Affine::of(4)]);
    let b = Access::new(&View::dense(&[co, ci, kh, kw]), [3, 4, 5, 6].map(Affine::of).to_vec());
    let contraction = finish(&[images, oh, ow, co, ci, kh, kw], 4, (DType::F32, false), a, b);
    Product { contraction, layout: WeightLayout::Panels16 }
}

/// Some schedule of every case that has one, in the emulator: how many there were, with a split depth, and of few channels.
fn check<S: Schedule<Problem = Product>>(
    case: impl Fn(u64) -> Product,
    arches: [&str; 2],
    make: impl Fn(&Product, &S, &Arch) -> Result<Kernel, Unsupported>,
) -> [usize; 3] {
    let mut cases = [0; 3];
    for seed in 0..240 {
        let p = case(seed);
        let arch = Arch::named(arches[(seed / 4 % 2) as usize]).expect("an architecture");
        let facts = S::facts(&p, arch);
        let legal: Vec<S> = S::space().filter(|s| s.legal(&facts)).collect();
        if legal.is_empty() {
            continue;
        }
        let s = legal[Random(seed + 99).below(legal.len())];
        let split = S::PARAMS.iter().zip(s.values()).any(|(p, value)| p.name == "split" && value > 1);
        cases[0] += 1;
        cases[1] += usize::from(split);
        cases[2] += usize::from(p.contraction.space[4] == 4 || p.contraction.a.dims[3].extent == 3);
        let kernel = make(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let Product { contraction, layout } = p;
        check_of(&Problem::Contraction(contraction), layout, &kernel, seed);
    }
    cases
}

#[test]
fn random_convolutions_agree_with_the_evaluator() {
    let cases = check::<Halo>(random, ["sm_90a"; 2], halo);
    assert!(cases[0] > 80 && cases[1] > 30 && cases[2] == 0, "{cases:?}");
}

#[test]
fn random_convolutions_of_few_channels_agree_with_the_evaluator() {
    let cases = check::<Packed>(random, ["sm_80", "sm_90a"], packed);
    assert!(cases[0] > 60 && cases[0] == cases[2], "{cases:?}");
}

#[test]
fn random_strict_convolutions_of_few_channels_agree_with_the_evaluator() {
    let cases = check::<Pairs>(strict, ["sm_90a"; 2], pairs);
    assert!(cases[0] > 200, "{cases:?}");
}

/// Blocks that share the channels are a cluster, but in strict `f32` where more of them find place by themselves than in clusters.
#[test]
fn sums_meet_in_memory_where_clusters_would_wait() {
    let arch = Arch::named("sm_90a").expect("an architecture");
    let s = Halo { rows: 8, bn: 16, halves: 1, groups: 1, split: 4 };
    for (columns, cluster) in [(512, 1), (480, 4)] {
        let along = |o: u8, k: u8| Affine { offset: 0, terms: vec![(o, 1), (k, 1)], divisor: 1 };
        let a = Access::new(&View::dense(&[1, 8, 9, 64]), vec![Affine::of(0), along(1, 5), along(2, 6), Affine::of(4)]);
        let b = Access::new(&View::dense(&[columns, 64, 1, 2]), [3, 4, 5, 6].map(Affine::of).to_vec());
        let p =
            Product { contraction: finish(&[1, 8, 8, columns, 64, 1, 2], 4, (DType::F32, false), a, b), layout: WeightLayout::Panels16 };
        let kernel = halo(&p, &s, arch).unwrap_or_else(|e| panic!("{columns}: {e}"));
        assert_eq!((kernel.cluster, kernel.workspace > 0), (cluster, cluster == 1), "{columns} columns");
        check_of(&Problem::Contraction(p.contraction), p.layout, &kernel, 5);
        assemble(&kernel, arch);
    }
}

/// Kernels on FP32 cores round and read them too.
#[test]
fn few_channels_without_tensor_cores_agree_with_the_evaluator() {
    let arch = Arch::named("sm_75").expect("an architecture");
    let rounded = (0..80).map(|seed| (seed, random(seed))).filter(|(_, p)| p.contraction.given != p.contraction.dtype);
    let mut cases = 0;
    for (seed, Product { contraction, layout }) in rounded {
        let s = Simt::heuristic(&contraction, arch).expect("a schedule");
        let kernel = simt(&contraction, layout, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        check_of(&Problem::Contraction(contraction), layout, &kernel, seed);
        cases += 1;
    }
    assert!(cases > 4, "{cases}");
}

/// What is not finite reaches the windows that have it, and no others.
#[test]
fn pixels_that_are_not_finite_agree_with_the_evaluator() {
    let arch = Arch::named("sm_90a").expect("an architecture");
    let planted = [(0, f64::INFINITY), (0, f64::NEG_INFINITY), (0, f64::NAN)];
    let mut cases = [0; 3];
    for (seed, p) in (0..60).map(|seed| (seed, random(seed))).chain((0..20).map(|seed| (seed, strict(seed)))) {
        let kernels = [
            Packed::heuristic(&p, arch).map(|s| packed(&p, &s, arch)),
            Halo::heuristic(&p, arch).filter(|_| p.layout == WeightLayout::Panels16).map(|s| halo(&p, &s, arch)),
            Pairs::heuristic(&p, arch).map(|s| pairs(&p, &s, arch)),
        ];
        for (kernel, cases) in kernels.into_iter().zip(&mut cases) {
            let Some(kernel) = kernel else { continue };
            *cases += 1;
            let kernel = kernel.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let found = outcome_with(&Problem::Contraction(p.contraction.clone()), p.layout, &kernel, seed, &planted);
            assert_eq!(found, Ok(()), "seed {seed}");
        }
    }
    assert!(cases.iter().all(|&n| n > 5), "{cases:?}");
}

#[test]
fn heuristic_schedules_are_assembled_without_spills() {
    for (arch, seed) in ["sm_80", "sm_90a"].into_iter().flat_map(|a| (0..20).map(move |seed| (a, seed))) {
        let (p, arch) = (random(seed), Arch::named(arch).expect("an architecture"));
        if let Some(s) = Packed::heuristic(&p, arch) {
            assemble(&packed(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}")), arch);
        }
        let few = strict(seed);
        if let Some(s) = Pairs::heuristic(&few, arch) {
            assemble(&pairs(&few, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}")), arch);
        }
        if let Some(s) = Halo::heuristic(&p, arch) {
            assemble(&halo(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}")), arch);
        }
    }
}
