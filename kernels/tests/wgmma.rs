//! Contractions by warpgroups: in the emulator against the naive evaluator, and through `ptxas`.

mod support;

use support::contractions::{convolution, finish, product};
use support::{Random, assemble, check_of};
use wpk_kernels::arch::Arch;
use wpk_kernels::family::{Bf16x3, Bulk, Mma, PingPong, Product, Strict, Unsupported, Wgmma, bf16x3, bulk, mma, pingpong, strict, wgmma};
use wpk_kernels::ptx::Kernel;
use wpk_kernels::schedule::Schedule;
use wpk_plan::number::tf32_even;
use wpk_plan::problem::{Access, Affine, Problem};
use wpk_plan::{DType, ScalarFn, View, WeightLayout};

fn hopper() -> &'static Arch {
    Arch::named("sm_90a").expect("an architecture")
}

/// The same with so few multiprocessors that small problems are large.
fn small() -> Arch {
    Arch { sms: 2, ..*hopper() }
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

/// A family's generator.
type Generate<S> = fn(&Product, &S, &Arch) -> Result<Kernel, Unsupported>;

/// Random schedules of random contractions, in the emulator.
fn agree<S: Schedule<Problem = Product>>(count: usize, arch: &Arch, generate: Generate<S>) {
    for (seed, p, legal) in cases::<S>(count, arch) {
        let s = legal[Random(seed + 99).below(legal.len())];
        let kernel = generate(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        check_of(&Problem::Contraction(p.contraction), p.layout, &kernel, seed);
    }
}

/// The estimate's and a random schedule, through `ptxas`.
fn assembled<S: Schedule<Problem = Product>>(arch: &Arch, generate: Generate<S>) {
    for (seed, p, legal) in cases::<S>(16, arch) {
        for s in [S::heuristic(&p, arch).expect("a schedule"), legal[Random(seed + 7).below(legal.len())]] {
            assemble(&generate(&p, &s, arch).unwrap_or_else(|e| panic!("seed {seed}: {e}")), arch);
        }
    }
}

#[test]
fn contractions_agree_with_the_evaluator() {
    agree::<Wgmma>(40, hopper(), wgmma);
}

#[test]
fn large_ones_agree_with_the_evaluator() {
    agree::<Bulk>(60, &small(), bulk);
}

#[test]
fn turns_of_two_warpgroups_agree_with_the_evaluator() {
    agree::<PingPong>(40, &small(), pingpong);
}

#[test]
fn strict_ones_agree_with_the_evaluator() {
    agree::<Strict>(40, hopper(), strict);
    agree::<Bf16x3>(40, hopper(), bf16x3);
}

#[test]
fn schedules_are_assembled_without_spills() {
    assembled::<Wgmma>(hopper(), wgmma);
    assembled::<Bulk>(&small(), bulk);
    assembled::<PingPong>(&small(), pingpong);
    assembled::<Strict>(hopper(), strict);
    assembled::<Bf16x3>(hopper(), bf16x3);
}

/// Tiles in strips of columns, where factors are larger than the second cache: twelve columns in two strips of six, eleven in one of eight and one of three.
#[test]
fn tiles_in_strips_agree_with_the_evaluator() {
    let arch = Arch { cache: 0, ..*hopper() };
    for (seed, n) in [192, 176].into_iter().enumerate() {
        let (a, b) = (View::dense(&[2, 200, 64]), View::dense(&[2, n, 64]));
        let [a, b] = [(&a, [0, 1, 3]), (&b, [0, 2, 3])].map(|(view, loops)| Access::new(view, loops.map(Affine::of).to_vec()));
        let contraction = finish(&[2, 200, n, 64], 3, (DType::F16, false), a, b);
        let (s, p) = (Wgmma { bm: 64, bn: 16, wm: 64, stages: 3, split: 1 }, Product { contraction, layout: WeightLayout::Dense });
        let kernel = wgmma(&p, &s, &arch).unwrap_or_else(|e| panic!("{e}"));
        check_of(&Problem::Contraction(p.contraction), p.layout, &kernel, seed as u64);
    }
}

/// A second factor that is no weight: along the depth, or across it, in panels of 64 columns of which the last does not exist.
#[test]
fn factors_that_are_inputs_agree_with_the_evaluator() {
    let matrix = |shape: [usize; 2], across: bool, loops: [usize; 2]| {
        let view = if across { View::dense(&[shape[1], shape[0]]).transpose(&[1, 0]) } else { View::dense(&shape) };
        Access::new(&view, loops.map(Affine::of).to_vec())
    };
    for (seed, (n, across)) in [(192, true), (200, true), (320, true), (320, false)].into_iter().enumerate() {
        // The engine rounds to TF32 what lies along the depth.
        let modes = [(DType::F16, false), (DType::BF16, false), (DType::F32, true)];
        for (dtype, tf32) in modes.into_iter().filter(|m| !(m.1 && across)) {
            let (a, b) = (matrix([200, 168], false, [0, 2]), matrix([n, 168], across, [1, 2]));
            let p = Product { contraction: finish(&[200, n, 168], 2, (dtype, tf32), a, b), layout: WeightLayout::Dense };
            let problem = Problem::Contraction(p.contraction.clone());
            for (bn, split) in [(64, 1), (128, 2), (192, 1)].into_iter().filter(|_| !tf32) {
                let s = Wgmma { bm: 64, bn, wm: 64, stages: 3, split };
                check_of(&problem, p.layout, &wgmma(&p, &s, hopper()).unwrap_or_else(|e| panic!("{e}")), seed as u64);
            }
            for (bn, cluster) in [(64, 1), (128, 1), (128, 2), (256, 2)] {
                let s = Bulk { bm: 64, bn, wm: 64, stages: 4, cluster, split: 1 };
                let kernel = bulk(&p, &s, &small()).unwrap_or_else(|e| panic!("{e}"));
                check_of(&problem, p.layout, &kernel, seed as u64);
                assemble(&kernel, hopper());
            }
        }
    }
}

/// Rows by the columns of the identity are the rows as the engine rounds them: to the nearest, of two the even one, whatever their sign and size.
#[test]
fn the_engine_rounds_to_tf32() {
    let (m, depth) = (128, 64);
    let matrix = |shape: [usize; 2], loops: [usize; 2]| Access::new(&View::dense(&shape), loops.map(Affine::of).to_vec());
    let mut contraction = finish(&[m, depth, depth], 2, (DType::F32, true), matrix([m, depth], [0, 2]), matrix([depth, depth], [1, 2]));
    contraction.extras.clear();
    contraction.epilogue = ScalarFn::default();
    let sum = contraction.epilogue.input(0, DType::F32);
    contraction.epilogue.outputs = vec![sum];
    let ends = [0x0, 0x1, 0xfff, 0x1000, 0x1001, 0x1fff, 0x2fff, 0x3000, 0x3001, 0x7f_efff, 0x7f_f000, 0x7f_ffff];
    let number = |i: usize| {
        let (end, exponent) = (ends[i % ends.len()], [1, 2, 100, 127, 150, 253][i / ends.len() % 6]);
        f32::from_bits(end | exponent << 23 | ((i / ends.len() / 6 % 2) as u32) << 31)
    };
    let rows: Vec<f32> = (0..m * depth).map(number).collect();
    let identity: Vec<f32> = (0..depth * depth).map(|i| f32::from(i / depth == i % depth)).collect();
    let bytes = |x: &[f32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let p = Product { contraction, layout: WeightLayout::Columns };
    let columns = support::packed(&p.contraction, p.layout, &bytes(&identity));
    let kernel = bulk(&p, &Bulk { bm: 64, bn: 64, wm: 64, stages: 3, cluster: 1, split: 1 }, hopper()).unwrap_or_else(|e| panic!("{e}"));
    let expected: Vec<f32> = rows.iter().map(|&x| tf32_even(x)).collect();
    for found in support::outputs(&Problem::Contraction(p.contraction.clone()), p.layout, &kernel, &[bytes(&rows), columns.clone()]) {
        let found: Vec<f32> = found.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        let wrong = (0..rows.len()).find(|&i| found[i] != expected[i]);
        assert_eq!(wrong.map(|i| [rows[i], found[i], expected[i]].map(f32::to_bits)), None);
    }
}

/// Columns that the copy engine brings in the order of lanes: to one block or two, with the depth shared or not, and by turns.
#[test]
fn columns_by_lane_agree_with_the_evaluator() {
    let matrix = |shape: [usize; 2], loops: [usize; 2]| Access::new(&View::dense(&shape), loops.map(Affine::of).to_vec());
    for (seed, (n, mode)) in [(64, (DType::F16, false)), (160, (DType::BF16, false)), (96, (DType::F32, true))].into_iter().enumerate() {
        let (seed, (m, depth)) = (seed as u64, (330, 264));
        let contraction = finish(&[m, n, depth], 2, mode, matrix([m, depth], [0, 2]), matrix([n, depth], [1, 2]));
        let p = Product { contraction, layout: WeightLayout::Columns };
        let check = |kernel: Result<Kernel, Unsupported>| {
            let kernel = kernel.unwrap_or_else(|e| panic!("{e}"));
            assert!(kernel.maps.iter().any(|m| m.by_lane), "{}", kernel.name);
            check_of(&Problem::Contraction(p.contraction.clone()), p.layout, &kernel, seed);
            assemble(&kernel, hopper());
        };
        for (bn, cluster, split) in [(32, 1, 1), (64, 2, 1), (64, 1, 2), (128, 1, 4)] {
            let s = Bulk { bm: 64, bn, wm: 64, stages: 3, cluster, split };
            if s.legal(&<Bulk as Schedule>::facts(&p, &small())) {
                check(bulk(&p, &s, &small()));
            }
        }
        for (bm, bn, stages, cluster) in [(64, 64, 3, 1), (128, 96, 4, 1), (64, 64, 3, 2)] {
            check(pingpong(&p, &PingPong { bm, bn, stages, cluster }, &Arch { sms: cluster, ..small() }));
        }
    }
}

/// Sums that are not finite are computed again, whichever factor is not.
#[test]
fn strict_contractions_of_what_is_not_finite() {
    not_finite::<Strict>(strict);
    not_finite::<Bf16x3>(bf16x3);
    not_finite::<Mma>(mma);
}

fn not_finite<S: Schedule<Problem = Product>>(generate: Generate<S>) {
    for (seed, p, legal) in cases::<S>(60, hopper()).into_iter().filter(|c| c.0 % 4 == 3).take(12) {
        let s = legal[Random(seed + 99).below(legal.len())];
        let kernel = generate(&p, &s, hopper()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let mut planted = vec![(0, f64::INFINITY), (0, f64::NEG_INFINITY), (0, f64::NAN)];
        // What lies beside an image is no number that a weight is multiplied by.
        if p.contraction.roles().taps.is_empty() {
            planted.push((1, f64::INFINITY));
        }
        let outcome = support::outcome_with(&Problem::Contraction(p.contraction), p.layout, &kernel, seed, &planted);
        assert_eq!(outcome, Ok(()), "seed {seed} {s}");
    }
}

/// Blocks that share the depth of a tile in a cluster: its sums by rows, by half a warp's rows, and by columns.
#[test]
fn clusters_share_the_sums_of_a_depth() {
    let run =
        |dtype: DType, (along, layout): (bool, WeightLayout), name: String, generate: &dyn Fn(&Product) -> Result<Kernel, Unsupported>| {
            // By lane and not.
            let (m, n, depth) = (72, if along { 160 } else { 136 }, 1000);
            let b = if along { View::dense(&[n, depth]) } else { View::dense(&[depth, n]).transpose(&[1, 0]) };
            let [a, b] = [(View::dense(&[m, depth]), 0), (b, 1)].map(|(view, line)| Access::new(&view, [line, 2].map(Affine::of).to_vec()));
            let p = Product { contraction: finish(&[m, n, depth], 2, (dtype, false), a, b), layout };
            let kernel = generate(&p).unwrap_or_else(|e| panic!("{name}: {e}"));
            // Groups of columns that lanes exchange are not torn apart.
            let torn = name.contains("bn=96") && kernel.cluster == 1;
            assert!(torn || kernel.cluster > 1 && kernel.workspace == 0, "{name}: {} blocks are a cluster", kernel.cluster);
            let problem = Problem::Contraction(p.contraction);
            check_of(&problem, p.layout, &kernel, 3);
            if dtype == DType::F32 {
                let planted = [(0, f64::INFINITY), (0, f64::NAN)];
                assert_eq!(support::outcome_with(&problem, p.layout, &kernel, 4, &planted), Ok(()), "{name}");
            }
            assemble(&kernel, hopper());
        };
    let (along, across) = ((true, WeightLayout::Dense), (false, WeightLayout::Dense));
    for split in [2, 4, 8] {
        for (bm, bn, wm) in [(64, 32, 64), (64, 64, 64), (64, 96, 64), (128, 64, 128)] {
            let s = Wgmma { bm, bn, wm, stages: 4, split };
            run(DType::F16, along, s.to_string(), &|p| wgmma(p, &s, hopper()));
        }
        for (wm, wn) in [(16, 16), (32, 32)].into_iter().filter(|w| split < 8 || w.0 > 16) {
            let s = Mma { bm: 32, bn: 64, bk: 64, wm, wn, stages: 4, split };
            run(DType::BF16, along, s.to_string(), &|p| mma(p, &s, hopper()));
            let s = Mma { stages: 3, ..s };
            run(DType::F32, across, s.to_string(), &|p| mma(p, &s, hopper()));
        }
        let s = Strict { bm: 64, bn: 64, stages: 2, split };
        run(DType::F32, across, s.to_string(), &|p| strict(p, &s, hopper()));
        let s = Bf16x3 { bm: 64, bn: 64, stages: 3, split };
        run(DType::F32, (false, WeightLayout::Panels16), s.to_string(), &|p| bf16x3(p, &s, hopper()));
    }
}

/// Rows that the copy engine reads by windows of images: with padding, steps, dilation, several images, and tiles that end within or behind them.
#[test]
fn windows_on_images_agree_with_the_evaluator() {
    // Images, rows, columns, window rows and columns, step, dilation, padding.
    let shapes = [
        [1, 9, 9, 3, 3, 1, 1, 1],
        [2, 7, 11, 3, 2, 2, 1, 1],
        [3, 8, 6, 1, 1, 2, 1, 0],
        [1, 12, 5, 2, 3, 1, 2, 2],
        [2, 1, 40, 1, 5, 1, 1, 2],
    ];
    for (seed, [images, h, w, kh, kw, step, dilation, pad]) in shapes.into_iter().enumerate() {
        for (dtype, tf32, ci) in [(DType::F16, false, 64), (DType::BF16, false, 128), (DType::F32, true, 32)] {
            let up = if h == 1 { 0 } else { pad };
            let windows = |extent: usize, taps: usize, pad: usize| (extent + 2 * pad - dilation * (taps - 1) - 1) / step + 1;
            let (oh, ow, co) = (windows(h, kh, up), windows(w, kw, pad), 40);
            let along = |o: u8, k: u8, pad: usize| Affine {
                offset: -(pad as i64),
                terms: vec![(o, step as i64), (k, dilation as i64)],
                divisor: 1,
            };
            let index = vec![Affine::of(0), along(1, 5, up), along(2, 6, pad), Affine::of(4)];
            let a = Access::new(&View::dense(&[images, h, w, ci]), index);
            let b = Access::new(&View::dense(&[co, ci, kh, kw]), [3, 4, 5, 6].map(Affine::of).to_vec());
            let contraction = finish(&[images, oh, ow, co, ci, kh, kw], 4, (dtype, tf32), a, b);
            let p = Product { contraction, layout: WeightLayout::Columns };
            let depth = (ci * dtype.bytes() / 128 * kh * kw) as u32;
            for (bm, cluster, split) in [(64, 1, 1), (128, 1, 1), (64, 1, 2), (64, 2, 1), (64, 1, 4)] {
                let s = Bulk { bm, bn: 32, wm: 64, stages: 3, cluster, split };
                let arch = if cluster == 1 { *hopper() } else { Arch { sms: 1, ..*hopper() } };
                let rounds = depth.div_ceil(split);
                if split > 1 && (rounds < 2 || rounds * (split - 1) >= depth) {
                    continue;
                }
                let kernel = bulk(&p, &s, &arch).unwrap_or_else(|e| panic!("{s} {images} {h} {w}: {e}"));
                assert!(kernel.maps.iter().any(|m| m.images.is_some()), "{s}");
                check_of(&Problem::Contraction(p.contraction.clone()), p.layout, &kernel, seed as u64);
                if seed < 2 {
                    assemble(&kernel, hopper());
                }
            }
        }
    }
}
