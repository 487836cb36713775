//! Every wait, fence and barrier is needed: without any single one the checks fail.

mod support;

use support::outcome_of;
use wpk_kernels::arch::Arch;
use wpk_kernels::family::{
    Bf16x3, Bulk, Flash, Folded, Halo, Mma, Packed, PingPong, Product, Reduction, RowProblem, Rows, Simt, Strict, WgFlash, Wgmma,
    attention, bf16x3, bulk, halo, mma, packed, pingpong, reduction, rows, simt, strict, wgflash, wgmma,
};
use wpk_kernels::ptx::{Kernel, Stmt};
use wpk_plan::problem::{Access, Affine, Attention, Contraction, Operand, Problem, Reduce, ReduceKind, Softmax};
use wpk_plan::{DType, ScalarFn, View, WeightLayout};

/// What a statement orders, if anything.
fn order(s: &Stmt) -> Option<&'static str> {
    match s {
        Stmt::Barrier => Some("barrier"),
        Stmt::WaitCopies(_) => Some("wait"),
        Stmt::CommitCopies => Some("commit"),
        Stmt::Fence => Some("fence"),
        Stmt::FenceProxy => Some("proxy fence"),
        Stmt::FenceProducts => Some("fence of products"),
        Stmt::CommitProducts => Some("commit of products"),
        Stmt::WaitProducts(_) => Some("wait for products"),
        Stmt::WaitDependencies => Some("wait for kernels before"),
        Stmt::FenceBarriers => Some("fence of barriers"),
        Stmt::ExpectBytes { .. } => Some("announcement"),
        Stmt::Arrive { .. } => Some("arrival at a barrier"),
        Stmt::AwaitBytes { .. } => Some("wait for bytes"),
        Stmt::ArriveCluster => Some("arrival"),
        Stmt::WaitCluster => Some("wait for the cluster"),
        _ => None,
    }
}

/// Removes ordering statement number `n` in the order of the text; what it was.
fn remove(body: &mut Vec<Stmt>, n: &mut usize) -> Option<&'static str> {
    for i in 0..body.len() {
        if let Some(kind) = order(&body[i]) {
            if *n == 0 {
                body.remove(i);
                return Some(kind);
            }
            *n -= 1;
        }
        if let Stmt::Loop { body, .. } | Stmt::If { then: body, .. } = &mut body[i]
            && let Some(kind) = remove(body, n)
        {
            return Some(kind);
        }
    }
    None
}

fn product() -> Contraction {
    let (m, n, k) = (40, 36, 128);
    Contraction {
        space: vec![m, n, k],
        outer: 2,
        dtype: DType::F32,
        given: DType::F32,
        tf32: false,
        a: Access::new(&View::dense(&[m, k]), [0, 2].map(Affine::of).to_vec()),
        b: Access::new(&View::dense(&[k, n]), [2, 1].map(Affine::of).to_vec()),
        sum: DType::F32,
        extras: vec![],
        epilogue: ScalarFn::identity(DType::F32),
        out: Operand::dense(DType::F32, &[m, n]),
    }
}

/// A convolution of 3 by 3 by steps of two.
fn windows(channels: usize) -> Contraction {
    let along = |o: u8, k: u8| Affine { offset: -1, terms: vec![(o, 2), (k, 1)], divisor: 1 };
    Contraction {
        space: vec![6, 9, 40, channels, 3, 3],
        outer: 3,
        a: Access::new(&View::dense(&[12, 18, channels]), vec![along(0, 4), along(1, 5), Affine::of(3)]),
        b: Access::new(&View::dense(&[40, channels, 3, 3]), [2, 3, 4, 5].map(Affine::of).to_vec()),
        out: Operand::dense(DType::F32, &[6, 9, 40]),
        ..product()
    }
}

fn in_tf32(p: &Product) -> Product {
    Product { contraction: Contraction { dtype: DType::F32, given: DType::F32, tf32: true, ..p.contraction.clone() }, ..p.clone() }
}

/// A line of the table: the kernel, what was removed, how it was found.
fn mutate(name: &str, problem: &Problem, kernel: &Kernel) -> Vec<String> {
    mutate_of(name, problem, WeightLayout::Dense, kernel)
}

/// The same for a contraction whose second factor lies in a layout.
fn mutate_of(name: &str, problem: &Problem, layout: WeightLayout, kernel: &Kernel) -> Vec<String> {
    assert_eq!(outcome_of(problem, layout, kernel, 1), Ok(()), "{name} unchanged");
    let mut lines = vec![];
    for n in 0.. {
        let mut mutant = kernel.clone();
        let mut left = n;
        let Some(kind) = remove(&mut mutant.body, &mut left) else { break };
        // Copies at their earliest and at their latest moment, blocks in two orders.
        let fault = (0..4).find_map(|seed| outcome_of(problem, layout, &mutant, seed).err());
        let fault = fault.unwrap_or_else(|| panic!("{name} without {kind} {n} passes"));
        lines.push(format!("{name:40} {kind:8} {}", fault.lines().next().unwrap_or_default()));
    }
    lines
}

#[test]
fn nothing_that_orders_can_be_left_out() {
    let arch = Arch::named("sm_80").expect("an architecture");
    let mut table = vec![];
    let c = product();
    for (stages, split) in [(2, 1), (2, 2), (3, 1), (3, 2), (4, 2)] {
        let s = Simt { bm: 32, bn: 32, bk: 16, tm: 4, tn: 4, stages, split };
        let kernel = simt(&c, WeightLayout::Dense, &s, arch).unwrap_or_else(|e| panic!("{e}"));
        table.extend(mutate(&s.to_string(), &Problem::Contraction(c.clone()), &kernel));
    }
    for (dtype, bk, stages, split) in [(DType::F16, 64, 2, 1), (DType::F16, 32, 3, 2), (DType::F32, 64, 4, 2)] {
        let s = Mma { bm: 32, bn: 32, bk, wm: 16, wn: 16, stages, split };
        let contraction = Contraction { dtype, given: dtype, ..product() };
        let kernel =
            mma(&Product { contraction: contraction.clone(), layout: WeightLayout::Dense }, &s, arch).unwrap_or_else(|e| panic!("{e}"));
        table.extend(mutate(&s.to_string(), &Problem::Contraction(contraction), &kernel));
    }
    let reduce = Reduce {
        kind: ReduceKind::Sum,
        input: Operand::dense(DType::F32, &[4, 50]),
        axes: vec![false, true],
        output: Operand::dense(DType::F32, &[4, 1]),
    };
    let s = Reduction { results: 8, parts: 8, vector: 1 };
    let kernel = reduction(&Folded::from(&reduce), &s, arch).unwrap_or_else(|e| panic!("{e}"));
    table.extend(mutate(&s.to_string(), &Problem::Reduce(reduce), &kernel));
    let dense = Operand::dense(DType::F32, &[3, 200]);
    let softmax = Softmax { log: false, input: dense.clone(), output: dense };
    let s = Rows { threads: 64, vector: 2 };
    let kernel = rows(&RowProblem::Softmax(softmax.clone()), &s, arch).unwrap_or_else(|e| panic!("{e}"));
    table.extend(mutate(&s.to_string(), &Problem::Softmax(softmax), &kernel));
    let operand = |rows: usize| Operand::dense(DType::F16, &[1, 2, rows, 32]);
    let [q, k, v, out] = [40, 150, 150, 40].map(operand);
    let p = Attention { scale: 0.2, tf32: false, q, k, v, mask: None, out };
    for (parts, stages) in [(1, 2), (2, 3)] {
        let s = Flash { queries: 2, parts, keys: 32, stages };
        let kernel = attention(&p, &s, arch).unwrap_or_else(|e| panic!("{e}"));
        table.extend(mutate(&s.to_string(), &Problem::Attention(p.clone()), &kernel));
    }
    let hopper = Arch::named("sm_90a").expect("an architecture");
    let [q, k, v, out] = [(130, 48), (150, 48), (150, 64), (130, 64)].map(|(n, d)| Operand::dense(DType::F16, &[1, 1, n, d]));
    let p = Attention { scale: 0.2, tf32: false, q, k, v, mask: None, out };
    for (groups, keys, stages) in [(1, 32, 3), (2, 64, 3), (3, 32, 4)] {
        let s = WgFlash { groups, keys, stages };
        let kernel = wgflash(&p, &s, hopper).unwrap_or_else(|e| panic!("{e}"));
        table.extend(mutate(&s.to_string(), &Problem::Attention(p.clone()), &kernel));
    }
    let p = Product { contraction: Contraction { dtype: DType::F16, given: DType::F16, ..product() }, layout: WeightLayout::Dense };
    let s = Mma { bm: 32, bn: 32, bk: 64, wm: 16, wn: 16, stages: 2, split: 2 };
    let kernel = mma(&p, &s, hopper).unwrap_or_else(|e| panic!("{e}"));
    table.extend(mutate(&format!("{s} sm_90a"), &Problem::Contraction(p.contraction.clone()), &kernel));
    let long = Contraction { space: vec![40, 36, 448], ..p.contraction };
    let (a, b) = (
        Access::new(&View::dense(&[40, 448]), [0, 2].map(Affine::of).to_vec()),
        Access::new(&View::dense(&[36, 448]), [1, 2].map(Affine::of).to_vec()),
    );
    let p = Product { contraction: Contraction { a, b, ..long }, layout: WeightLayout::Dense };
    for (stages, split) in [(3, 1), (3, 2), (4, 1)] {
        let s = Wgmma { bm: 64, bn: 32, wm: 64, stages, split };
        for p in [&p, &in_tf32(&p)] {
            let kernel = wgmma(p, &s, hopper).unwrap_or_else(|e| panic!("{e}"));
            table.extend(mutate(&s.to_string(), &Problem::Contraction(p.contraction.clone()), &kernel));
        }
    }
    // Rows along the depth, columns side by side.
    let a = Access::new(&View::dense(&[40, 448]), [0, 2].map(Affine::of).to_vec());
    let b = Access::new(&View::dense(&[448, 32]), [2, 1].map(Affine::of).to_vec());
    let (space, out) = (vec![40, 32, 448], Operand::dense(DType::F32, &[40, 32]));
    let contraction = Contraction { space, a, b, out, dtype: DType::F32, given: DType::F32, ..p.contraction.clone() };
    for (stages, split) in [(2, 1), (3, 2)] {
        let s = Strict { bm: 64, bn: 32, stages, split };
        let strict = strict(&Product { contraction: contraction.clone(), ..p.clone() }, &s, hopper).unwrap_or_else(|e| panic!("{e}"));
        table.extend(mutate(&s.to_string(), &Problem::Contraction(contraction.clone()), &strict));
    }
    // The same columns as a weight that is given in parts.
    let weight = Product { contraction: contraction.clone(), layout: WeightLayout::Panels16 };
    for (stages, split) in [(3, 1), (3, 2)] {
        let s = Bf16x3 { bm: 64, bn: 32, stages, split };
        let kernel = bf16x3(&weight, &s, hopper).unwrap_or_else(|e| panic!("{e}"));
        table.extend(mutate_of(&s.to_string(), &Problem::Contraction(contraction.clone()), weight.layout, &kernel));
    }
    let few = Arch { sms: 2, ..*hopper };
    let large = Product { contraction: Contraction { space: vec![140, 64, 448], ..p.contraction }, layout: WeightLayout::Columns };
    let access = |lines, at| Access::new(&View::dense(&[lines, 448]), [at, 2].map(Affine::of).to_vec());
    let out = Operand::dense(DType::F32, &[140, 64]);
    let p = Product { contraction: Contraction { a: access(140, 0), b: access(64, 1), out, ..large.contraction }, ..large };
    for (stages, cluster, split) in [(3, 1, 1), (3, 2, 1), (4, 2, 1), (3, 1, 2)] {
        let s = Bulk { bm: 64, bn: 64, wm: 64, stages, cluster, split };
        for p in [&p, &in_tf32(&p)] {
            let kernel = bulk(p, &s, &few).unwrap_or_else(|e| panic!("{e}"));
            table.extend(mutate_of(&s.to_string(), &Problem::Contraction(p.contraction.clone()), p.layout, &kernel));
        }
    }
    // Tiles by turns: five of them, so that both warpgroups take more than one.
    for (bm, stages, cluster) in [(64, 3, 1), (64, 4, 2)] {
        let s = PingPong { bm, bn: 64, stages, cluster };
        let space = vec![bm as usize * 5, 64, 448];
        let access = |lines, at| Access::new(&View::dense(&[lines, 448]), [at, 2].map(Affine::of).to_vec());
        let out = Operand::dense(DType::F32, &space[..2]);
        let contraction = Contraction { a: access(space[0], 0), b: access(64, 1), out, space, ..p.contraction.clone() };
        let p = Product { contraction, ..p.clone() };
        let arch = Arch { sms: cluster, ..*hopper };
        let kernel = pingpong(&p, &s, &arch).unwrap_or_else(|e| panic!("{e}"));
        table.extend(mutate_of(&s.to_string(), &Problem::Contraction(p.contraction.clone()), p.layout, &kernel));
    }
    // Columns side by side, which another kernel writes.
    let b = Access::new(&View::dense(&[448, 64]), [2, 1].map(Affine::of).to_vec());
    let p = Product { contraction: Contraction { b, ..p.contraction }, layout: WeightLayout::Dense };
    for cluster in [1, 2] {
        let s = Bulk { bm: 64, bn: 64 * cluster, wm: 64, stages: 3, cluster, split: 1 };
        let kernel = bulk(&p, &s, &few).unwrap_or_else(|e| panic!("{e}"));
        table.extend(mutate(&format!("{s} across"), &Problem::Contraction(p.contraction.clone()), &kernel));
    }
    // Windows of images.
    for (dtype, layout, channels, split) in [
        (DType::F16, WeightLayout::Columns, 32, 1),
        (DType::F16, WeightLayout::Columns, 64, 2),
        (DType::F32, WeightLayout::Panels16, 32, 1),
    ] {
        let p = Product { contraction: Contraction { dtype, given: dtype, ..windows(channels) }, layout };
        let s = Halo { rows: 8, bn: 32, halves: 1, groups: 2, split };
        let kernel = halo(&p, &s, hopper).unwrap_or_else(|e| panic!("{e}"));
        table.extend(mutate_of(&s.to_string(), &Problem::Contraction(p.contraction), layout, &kernel));
    }
    for (dtype, tf32) in [(DType::F16, false), (DType::F32, true)] {
        let p = Product { contraction: Contraction { dtype, given: dtype, tf32, ..windows(4) }, layout: WeightLayout::Columns };
        let s = Packed { rows: 4, columns: 8, bn: 32, wm: 16, wn: 16 };
        let kernel = packed(&p, &s, hopper).unwrap_or_else(|e| panic!("{e}"));
        table.extend(mutate_of(&s.to_string(), &Problem::Contraction(p.contraction), p.layout, &kernel));
    }
    println!("{}", table.join("\n"));
    assert!(table.len() > 75, "{} mutants", table.len());
}
