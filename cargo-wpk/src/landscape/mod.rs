//! Landscapes: the times of the schedules of single problems, recorded on a GPU, and how well the estimate and the searches know them.

mod convs;
mod file;
mod live;
mod plot;
mod problems;
mod searches;

pub use convs::{ConvsArgs, convs};

use crate::Outcome;
use crate::measure::Surroundings;
use crate::search::replay::Replay;
use crate::search::space::FamilySpace;
use crate::worker::{Limits, Worker};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use wpk_build::records::{Key, Timed};
use wpk_kernels::arch::Arch;
use wpk_kernels::family;
use wpk_plan::WeightLayout;
use wpk_plan::problem::Problem;

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
    /// The arithmetic: fp32, tf32, fp16 or bf16
    #[arg(long, default_value = "fp16", value_parser = crate::precision)]
    precision: wpk_build::Precision,
    /// Compares the searches too, with so many seeds
    #[arg(long, default_value_t = 0)]
    seeds: u64,
    /// Compares the searches on the device, with so many measurements a problem each
    #[arg(long, requires = "device")]
    live: Option<usize>,
    /// Draws what the searches have found after each measurement into this file, as SVG
    #[arg(long, requires = "seeds")]
    curves: Option<PathBuf>,
    /// Only problems whose names contain this
    #[arg(long, default_value = "")]
    only: String,
    /// Records every problem that the estimate is looked at for, batches and products too
    #[arg(long)]
    every: bool,
    /// The family of kernels, instead of a problem's first
    #[arg(long)]
    family: Option<String>,
    /// Schedules of a problem at most
    #[arg(long, default_value_t = file::MOST)]
    most: usize,
}

impl LandscapeArgs {
    /// The family's schedules of a problem.
    fn space<'a>(&self, problem: &Problem, layout: WeightLayout, arch: &'a Arch) -> Option<family::Space<'a>> {
        family::spaces(problem, layout, arch).into_iter().find(|s| self.family.as_ref().is_none_or(|f| f == s.family))
    }
}

pub fn landscape(args: &LandscapeArgs) -> Outcome {
    let arch = Arch::named(&args.gpu).ok_or("there is no such architecture")?;
    match (args.device, args.live) {
        (Some(device), Some(most)) => live::compare(args, arch, device, most),
        (Some(device), None) => record(args, arch, device),
        (None, _) => compare(args, arch),
    }
}

/// Schedules that are measured at once.
const BATCH: usize = 128;

fn record(args: &LandscapeArgs, arch: &Arch, device: usize) -> Outcome {
    let mut worker = Worker::new(vec!["--device".to_owned(), device.to_string()], Limits::default());
    let mut out = std::fs::File::create(&args.file)?;
    let precision = format!("{:?}", args.precision).to_lowercase();
    let problems = if args.every { problems::all(args.precision) } else { problems::landscapes(args.precision) };
    for (name, problem, layout) in problems.into_iter().filter(|p| p.0.contains(&args.only)) {
        let Some(space) = args.space(&problem, layout, arch) else { continue };
        worker.begin(&Key::new(&problem, layout, arch).hex(), Surroundings::default())?;
        let part = file::part(&space, args.most);
        let schedules = file::walk(&part);
        let legal: Vec<&Vec<u32>> = schedules.iter().filter(|v| space.estimate(v).is_some()).collect();
        let mut ends = vec![];
        for batch in legal.chunks(BATCH) {
            let named: Vec<Timed> = batch.iter().map(|v| Timed::schedule(space.family, space.params, v, 0.0)).collect();
            ends.extend(worker.time(&named, 3)?);
        }
        let best = ends.iter().flatten().copied().fold(f64::INFINITY, f64::min);
        let failed: Vec<&String> = ends.iter().filter_map(|e| e.as_ref().err()).collect();
        println!("{name}: {} schedules, {} failed, best {:.2} us {:?}", ends.len(), failed.len(), best / 1e3, failed.first());
        let mut ends = ends.into_iter();
        let all: Vec<Option<Option<f64>>> =
            schedules.iter().map(|v| if space.estimate(v).is_some() { ends.next().map(std::result::Result::ok) } else { None }).collect();
        writeln!(out, "{}", file::line((&name, &precision, arch.clusters > 0), (space.family, space.params), &part, &all))?;
    }
    Ok(())
}

/// The estimate beside the times: what its choice costs over the best, and how it orders the rest; then the searches.
fn compare(args: &LandscapeArgs, arch: &Arch) -> Outcome {
    let (times, clusters) = file::read(&args.file)?;
    let arch = &Arch { clusters: if clusters { arch.clusters } else { 0 }, ..*arch };
    let (mut losses, mut ranks, mut replays) = (vec![], vec![], vec![]);
    for (name, problem, layout) in problems::all(args.precision).into_iter().filter(|p| p.0.contains(&args.only)) {
        let Some(family) = args.space(&problem, layout, arch) else { continue };
        let space = FamilySpace::new(family, &problem);
        let Some(rows) = times.get(&(name.clone(), space.family.family.to_owned())) else {
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
    searches::compare(&replays, args.seeds);
    searches::policies(&replays, args.seeds);
    if let Some(file) = &args.curves {
        let title = format!("{} convolutions, {:?}, {} seeds", replays.len(), args.precision, args.seeds);
        std::fs::write(file, searches::curves(&replays, args.seeds, &title))?;
    }
    Ok(())
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
