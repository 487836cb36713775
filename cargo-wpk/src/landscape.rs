//! Landscapes: the times of many schedules of single problems, recorded on a GPU, and how well the estimate knows them.

use crate::Outcome;
use crate::measure::Measurer;
use crate::search::replay::Replay;
use crate::search::rl::Policy;
use crate::search::space::FamilySpace;
use crate::search::{self, Searcher};
use clap::Args;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use wpk_build::Precision;
use wpk_build::graph::{Builder, Conv, Graph, Op};
use wpk_build::lower::{self, Weights};
use wpk_kernels::arch::Arch;
use wpk_kernels::family::{Candidate, Generated, Space, spaces};
use wpk_plan::problem::Problem;
use wpk_plan::{DType, WeightLayout};
use wpk_rt::measure::Bench;

#[derive(Args)]
pub struct LandscapeArgs {
    /// The file of times, one JSON object a line
    file: PathBuf,
    /// Records on this CUDA device; without it the file is compared with the estimate
    #[arg(long)]
    device: Option<usize>,
    /// The architecture
    #[arg(long, default_value = "sm_90a")]
    gpu: String,
    /// Schedules of a problem: those the estimate prefers, and as many others
    #[arg(long, default_value_t = 64)]
    schedules: usize,
    /// The arithmetic: fp32, tf32, fp16 or bf16
    #[arg(long, default_value = "fp16", value_parser = crate::precision)]
    precision: wpk_build::Precision,
    /// Compares the searches too, with so many seeds
    #[arg(long, default_value_t = 0)]
    seeds: u64,
    /// Only problems whose names contain this
    #[arg(long, default_value = "")]
    only: String,
}

/// Convolutions as input channels, extent, output channels, kernel, stride, padding: ResNet-18's twelve, and four of ResNet-50.
const CONVS: &[[usize; 6]] = &[
    [4, 224, 64, 7, 2, 3],
    [64, 56, 64, 3, 1, 1],
    [64, 56, 64, 1, 1, 0],
    [64, 56, 128, 3, 2, 1],
    [64, 56, 128, 1, 2, 0],
    [128, 28, 128, 3, 1, 1],
    [128, 28, 256, 3, 2, 1],
    [128, 28, 256, 1, 2, 0],
    [256, 14, 256, 3, 1, 1],
    [256, 14, 512, 3, 2, 1],
    [256, 14, 512, 1, 2, 0],
    [512, 7, 512, 3, 1, 1],
    [256, 56, 64, 1, 1, 0],
    [1024, 14, 256, 1, 1, 0],
    [2048, 7, 512, 1, 1, 0],
    [512, 7, 2048, 1, 1, 0],
];

/// Products as rows, columns and depth: BERT's and ViT's for one item and 32.
const PRODUCTS: &[[usize; 3]] = &[
    [128, 768, 768],
    [128, 3072, 768],
    [128, 768, 3072],
    [4096, 768, 768],
    [4096, 3072, 768],
    [4096, 768, 3072],
    [6304, 768, 3072],
    [4096, 4096, 4096],
    [1, 1000, 2048],
];

/// Attention as batch, heads, rows and depth: BERT's and ViT's.
const ATTENTIONS: &[[usize; 4]] = &[[1, 12, 128, 64], [32, 12, 128, 64], [1, 12, 197, 64], [32, 12, 197, 64], [1, 12, 1024, 64]];

/// A problem by name, with the layout of its weights.
fn problems(precision: Precision) -> Vec<(String, Problem, WeightLayout)> {
    let mut all = vec![];
    for batch in [1, 32] {
        for &[c, h, n, k, stride, pad] in CONVS {
            let out = (h + 2 * pad - k) / stride + 1;
            let conv = Conv {
                strides: vec![stride; 2],
                pads: vec![pad as i64; 2],
                dilations: vec![1; 2],
                groups: 1,
                transposed: false,
                out: vec![out; 2],
                channels_last: true,
                epilogue: None,
            };
            let graph = graph(precision, &[batch, h, h, c], &[n, c, k, k], Op::Conv(conv));
            all.extend(graph.map(|g| (format!("conv b{batch} {c} {h} {n} {k} {stride} {pad}"), g)));
        }
    }
    for &[m, n, k] in PRODUCTS {
        let op = Op::Contract { a: b"mk".to_vec(), b: b"kn".to_vec(), out: b"mn".to_vec(), epilogue: None };
        all.extend(graph(precision, &[m, k], &[k, n], op).map(|g| (format!("product {m} {n} {k}"), g)));
    }
    for &[batch, heads, rows, depth] in ATTENTIONS {
        let mut b = Builder::default();
        let shape = [batch, heads, rows, depth];
        let operands = ["q", "k", "v"].map(|name| b.input(name, factor(precision), &shape));
        let Ok(y) = b.one(Op::Attention { scale: 0.125, mask: false }, &operands) else { continue };
        b.graph.outputs.push(("y".to_owned(), y));
        all.push((format!("attention {batch} {heads} {rows} {depth}"), b.graph));
    }
    let single = |(name, graph): (String, Graph)| {
        let problems = lower::problems(&graph, &mut Weights::untold(), precision == Precision::Tf32);
        problems.into_iter().next().map(|(problem, layout)| (name, problem, layout))
    };
    all.into_iter().filter_map(single).collect()
}

/// The type of factors.
fn factor(precision: Precision) -> DType {
    match precision {
        Precision::Fp32 | Precision::Tf32 => DType::F32,
        Precision::Fp16 => DType::F16,
        Precision::Bf16 => DType::BF16,
    }
}

/// A graph of one operation by constant weights.
fn graph(precision: Precision, x: &[usize], w: &[usize], op: Op) -> Option<Graph> {
    let dtype = factor(precision);
    let mut b = Builder::default();
    let input = b.input("x", dtype, x);
    let bytes = vec![0; w.iter().product::<usize>() * dtype.bytes()];
    let weights = b.constant(wpk_build::Literal { dtype, shape: w.to_vec(), bytes: bytes.into() });
    // What is stored has the type of the factors.
    let mut epilogue = wpk_plan::ScalarFn::default();
    let sum = epilogue.input(0, DType::F32);
    epilogue.outputs = vec![epilogue.cast(sum, dtype)];
    let op = match op {
        Op::Conv(c) => Op::Conv(Conv { epilogue: Some(epilogue), ..c }),
        Op::Contract { a, b, out, .. } => Op::Contract { a, b, out, epilogue: Some(epilogue) },
        other => other,
    };
    let y = b.one(op, &[input, weights]).ok()?;
    b.graph.outputs.push(("y".to_owned(), y));
    Some(b.graph)
}

pub fn landscape(args: &LandscapeArgs) -> Outcome {
    let arch = Arch::named(&args.gpu).ok_or("there is no such architecture")?;
    match args.device {
        Some(device) => record(args, arch, device),
        None => compare(args, arch),
    }
}

/// The schedules that are recorded: the estimate's best, and others by a fixed walk.
fn chosen(space: &Space<'_>, count: usize) -> Vec<Candidate> {
    let mut all = space.all();
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    let best = all.len().min(count / 2);
    let rest = all.split_off(best);
    // Those that the estimate puts beyond ten times its best are left out.
    let limit = all.first().map_or(0.0, |c| c.cost * 10.0);
    let rest: Vec<Candidate> = rest.into_iter().filter(|c| c.cost < limit).collect();
    let step = (rest.len() / (count - count / 2).max(1)).max(1);
    all.extend(rest.into_iter().step_by(step).take(count - count / 2));
    all
}

fn record(args: &LandscapeArgs, arch: &Arch, device: usize) -> Outcome {
    let bench = Bench::new(device)?;
    let mut file = std::fs::File::create(&args.file)?;
    for (name, problem, layout) in problems(args.precision).into_iter().filter(|p| p.0.contains(&args.only)) {
        let mut measurer = Measurer::new(&bench, &problem, layout, arch)?;
        for space in spaces(&problem, layout, arch).into_iter().take(1) {
            let candidates = chosen(&space, args.schedules);
            let (values, made): (Vec<&Vec<u32>>, Vec<Generated>) =
                candidates.iter().filter_map(|c| Some((&c.values, space.generate(&c.values).ok()?))).unzip();
            let mut best = f64::INFINITY;
            let mut times: Vec<Vec<u64>> = vec![];
            for (values, ns) in values.into_iter().zip(measurer.times(&made)?) {
                let Some(ns) = ns else { continue };
                best = best.min(ns);
                times.push(values.iter().map(|&v| u64::from(v)).chain([ns as u64]).collect());
            }
            times.sort_by_key(|t| t.last().copied());
            let params: Vec<&str> = space.params.iter().map(|p| p.name).collect();
            let precision = format!("{:?}", args.precision).to_lowercase();
            let row =
                serde_json::json!({"problem": name, "precision": precision, "family": space.family, "params": params, "times": times});
            writeln!(file, "{row}")?;
            println!("{name}: {} schedules, best {:.2} us, estimated best {:.2} us", made.len(), best / 1e3, candidates[0].cost / 1e3);
        }
    }
    Ok(())
}

/// Times of schedules by problem and family.
type Recorded = BTreeMap<(String, String), Vec<(Vec<u32>, f64)>>;

/// The recorded times by problem and family, for the parameters that the families have.
fn recorded(args: &LandscapeArgs) -> Result<Recorded, Box<dyn std::error::Error>> {
    let mut all = BTreeMap::new();
    for line in BufReader::new(std::fs::File::open(&args.file)?).lines() {
        let row: serde_json::Value = serde_json::from_str(&line?)?;
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let numbers = |t: &serde_json::Value| t.as_array().map(|v| v.iter().filter_map(serde_json::Value::as_u64).collect::<Vec<u64>>());
        let times = row["times"].as_array().into_iter().flatten().filter_map(numbers);
        let split = |t: Vec<u64>| t.split_last().map(|(ns, v)| (v.iter().map(|&x| x as u32).collect(), *ns as f64));
        all.insert((text("problem"), text("family")), times.filter_map(split).collect());
    }
    Ok(all)
}

/// The estimate beside the times: what its choice costs over the best, and how it orders the rest; then the searches.
fn compare(args: &LandscapeArgs, arch: &Arch) -> Outcome {
    let times = recorded(args)?;
    let (mut losses, mut ranks, mut replays) = (vec![], vec![], vec![]);
    for (name, problem, layout) in problems(args.precision).into_iter().filter(|p| p.0.contains(&args.only)) {
        let Some(family) = spaces(&problem, layout, arch).into_iter().next() else { continue };
        let space = FamilySpace::new(family, &problem);
        let Some(rows) = times.get(&(name.clone(), space.family.family.to_owned())) else {
            let choice = chosen(&space.family, 2).into_iter().next();
            choice.iter().for_each(|c| println!("{name:32} estimated {:8.2} us {:?}; not recorded", c.cost / 1e3, c.values));
            continue;
        };
        let known: Vec<(f64, f64, &Vec<u32>)> = rows.iter().filter_map(|(v, ns)| Some((space.family.estimate(v)?, *ns, v))).collect();
        let (Some(first), Some(best)) = (known.iter().min_by(|a, b| a.0.total_cmp(&b.0)), known.iter().min_by(|a, b| a.1.total_cmp(&b.1)))
        else {
            continue;
        };
        let rank = spearman(&known);
        println!(
            "{name:32} estimated {:8.2} us, took {:8.2} us {:?}; best {:8.2} us {:?} estimated {:8.2}; loss {:.2}, rank {rank:.2}",
            first.0 / 1e3,
            first.1 / 1e3,
            first.2,
            best.1 / 1e3,
            best.2,
            best.0 / 1e3,
            first.1 / best.1
        );
        losses.push((first.1 / best.1).ln());
        ranks.push(rank);
        replays.push(Replay::new(rows, &space));
    }
    ranks.sort_by(f64::total_cmp);
    let mean = (losses.iter().sum::<f64>() / losses.len().max(1) as f64).exp();
    println!(
        "{} problems: the estimate's choice takes {mean:.3} times the best (geometric mean), median rank correlation {:.2}",
        losses.len(),
        ranks.get(ranks.len() / 2).copied().unwrap_or(0.0)
    );
    searches(&replays, args.seeds);
    Ok(())
}

/// The measurements that each search needs on the recorded problems, all from the same first schedules, over random's.
fn searches(replays: &[Replay], seeds: u64) {
    const START: usize = 1;
    const SHARE: f64 = 0.03;
    if seeds == 0 || replays.is_empty() {
        return;
    }
    println!(
        "measurements until within {SHARE} of the best, geometric means over {} problems and {seeds} seeds, {START} at first:",
        replays.len()
    );
    let mut logs: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for seed in 0..seeds {
        for (at, replay) in replays.iter().enumerate() {
            let mut run = |name: &'static str, searcher: &mut dyn Searcher| {
                logs.entry(name).or_default().push((replay.measurements(searcher, START, SHARE) as f64).ln());
            };
            for name in ["random", "ga", "rl"] {
                if let Some(mut searcher) = search::by_name(name, seed) {
                    run(name, searcher.as_mut());
                }
            }
            run("rl, trained on the others", &mut trained(replays, at, seed));
        }
    }
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let random = mean(&logs["random"]);
    for (name, x) in &logs {
        let (m, n) = (mean(x), x.len() as f64);
        let deviation = (x.iter().map(|v| (v - m) * (v - m)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
        let half = 1.96 * deviation / n.sqrt();
        println!("  {name:28} {:6.2} [{:.2}, {:.2}], {:.2} of random's", m.exp(), (m - half).exp(), (m + half).exp(), (m - random).exp());
    }
}

/// A policy that searched every other problem.
fn trained(replays: &[Replay], without: usize, seed: u64) -> Policy {
    let mut policy = Policy::new(seed + 1000);
    for round in 0..2 {
        for (i, replay) in replays.iter().enumerate() {
            if i % replays.len().min(8) == (without + round) % replays.len().min(8) && i != without {
                replay.measurements(&mut policy, 2, 0.0);
            }
        }
    }
    Policy::trained(seed, &policy.weights())
}

/// Spearman's rank correlation of estimates and times.
fn spearman(known: &[(f64, f64, &Vec<u32>)]) -> f64 {
    let ranks = |key: &dyn Fn(usize) -> f64| {
        let mut order: Vec<usize> = (0..known.len()).collect();
        order.sort_by(|&a, &b| key(a).total_cmp(&key(b)));
        let mut ranks = vec![0.0; known.len()];
        order.iter().enumerate().for_each(|(r, &i)| ranks[i] = r as f64);
        ranks
    };
    let (x, y) = (ranks(&|i| known[i].0), ranks(&|i| known[i].1));
    let n = known.len() as f64;
    let squares: f64 = x.iter().zip(&y).map(|(a, b)| (a - b) * (a - b)).sum();
    1.0 - 6.0 * squares / (n * (n * n - 1.0)).max(1.0)
}
