//! `cargo wpk tune`: searches for the fastest schedules of a model's problems on a GPU, and writes records.

use crate::measure::Measurer;
use crate::search::space::FamilySpace;
use crate::search::{self, History, Searcher, Space, Values, first};
use crate::{ModelArgs, Outcome};
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wpk_build::records::{FOLDER, Key, Record};
use wpk_build::{Compiled, Untuned, hash};
use wpk_kernels::arch::Arch;
use wpk_kernels::family::spaces;
use wpk_plan::WeightLayout;
use wpk_plan::problem::Problem;
use wpk_rt::measure::Bench;

#[derive(Args)]
pub struct TuneArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Fails where the model has problems without a record, and names them; needs no GPU
    #[arg(long)]
    check: bool,
    /// How schedules are found: ga, rl, random or auto
    #[arg(long, default_value = "auto")]
    search: String,
    /// Seconds for the model
    #[arg(long, default_value_t = 60.0)]
    budget: f64,
    /// The search's seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Takes every N-th problem, the I-th first, as I/N
    #[arg(long, value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Where records go
    #[arg(long, default_value = FOLDER)]
    out: PathBuf,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let (i, n) = text.split_once('/').ok_or("expected I/N")?;
    let number = |s: &str| s.parse::<usize>().map_err(|e| format!("{s:?}: {e}"));
    let (i, n) = (number(i)?, number(n)?);
    if i < n { Ok((i, n)) } else { Err(format!("there is no shard {i} of {n}: they begin at 0")) }
}

/// Schedules that are measured at once.
const BATCH: usize = 16;
/// Batches without a gain after which a problem is left.
const PATIENCE: usize = 2;
/// Rounds of compiling and tuning: a measured plan may prefer another cover, with problems of its own.
const ROUNDS: usize = 3;

pub fn tune(args: &TuneArgs) -> Outcome {
    let model = if args.check { args.model.model() } else { args.model.model().records(&args.out) };
    let compiled = model.build()?;
    if let Some((arch, steps)) = compiled.refused.first() {
        return Err(format!("no plan for {arch}:\n  {}", steps.join("\n  ")).into());
    }
    if args.check {
        return check(&compiled);
    }
    let Some(device) = args.model.device else {
        return Err("name the GPU to measure on: `--gpu sm_90a --device 0`; without one, `--check` tells what is missing".into());
    };
    search::by_name(&args.search, args.seed).ok_or_else(|| format!("there is no search {:?}: ga, rl, random or auto", args.search))?;
    let lock = lock(device)?;
    let bench = Bench::new(device)?;
    let end = Instant::now() + Duration::from_secs_f64(args.budget);
    let mut compiled = compiled;
    for _ in 0..ROUNDS {
        let mine = |i: usize| args.shard.is_none_or(|(first, n)| i % n == first);
        let untuned: Vec<&Untuned> = compiled.untuned.iter().enumerate().filter(|(i, _)| mine(*i)).map(|u| u.1).collect();
        if untuned.is_empty() || Instant::now() >= end {
            break;
        }
        for (i, (arch, (problem, layout, _))) in untuned.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            let share = left / (untuned.len() - i) as u32;
            let place = format!("[{}/{}]", i + 1, untuned.len());
            one(args, &bench, (problem, *layout, arch), share, &place)?;
        }
        compiled = model.build()?;
    }
    drop(lock);
    println!("{} records in {}; {} problems have none", compiled.records.iter().count(), args.out.display(), compiled.untuned.len());
    Ok(())
}

/// Tunes one problem within some time and writes its record.
fn one(args: &TuneArgs, bench: &Bench, (problem, layout, arch): (&Problem, WeightLayout, &Arch), time: Duration, place: &str) -> Outcome {
    let end = Instant::now() + time;
    let mut measurer = Measurer::new(bench, problem, layout, arch)?;
    let mut found: Option<(Record, f64)> = None;
    let families = promising(problem, layout, arch);
    let mut measured = 0;
    for space in &families {
        let mut searcher = search::by_name(&args.search, args.seed).ok_or("no such search")?;
        let mut history = History::default();
        let mut best = f64::INFINITY;
        let mut idle = 0;
        while idle < PATIENCE && (history.trials.is_empty() || Instant::now() < end) {
            let proposals = if history.trials.is_empty() { first(space, &[], BATCH) } else { searcher.propose(space, &history, BATCH) };
            if proposals.is_empty() {
                break;
            }
            measure(&mut measurer, space, &mut history, proposals, searcher.as_mut())?;
            let now = history.best(1).first().map_or(f64::INFINITY, |b| b.1);
            idle = if now < 0.995 * best { 0 } else { idle + 1 };
            best = best.min(now);
        }
        measured += history.trials.len();
        if found.as_ref().is_some_and(|f| f.1 <= best) || !best.is_finite() {
            continue;
        }
        let fastest: Vec<(Values, f64)> = history.best(8).into_iter().map(|(v, ns)| (v.clone(), ns)).collect();
        let key = Key::new(problem, layout, arch);
        let (family, params) = (space.family.family, space.family.params);
        let mut record = Record::new(&key, problem, (&bench.name()?, arch), family, params, &fastest);
        let made = space.family.generate(&fastest[0].0)?;
        record.ptx = hash::hex(made.kernel.text(arch).as_bytes());
        record.search = (searcher.name().to_owned(), 0);
        found = Some((record, best));
    }
    let name = format!("{} {}", problem.family(), problem.describe());
    match found {
        Some((mut record, best)) => {
            record.search.1 = measured as u64;
            record.write(&args.out)?;
            let made = record.generate(problem, layout, arch)?;
            record.write_cubin(&args.out, &bench.cubin(&made.kernel.module(arch))?)?;
            eprintln!("{place} {name}: {:.2} us by {} after {measured}", best / 1e3, record.family);
        }
        None => eprintln!("{place} {name}: no schedule of {measured} gave right results"),
    }
    Ok(())
}

/// The families whose best estimate is not far from the best of all.
fn promising<'a>(problem: &Problem, layout: WeightLayout, arch: &'a Arch) -> Vec<FamilySpace<'a>> {
    let least = |s: &FamilySpace<'_>| s.all().iter().map(|a| a.1).fold(f64::INFINITY, f64::min);
    let mut all: Vec<(f64, FamilySpace<'a>)> = spaces(problem, layout, arch)
        .into_iter()
        .map(|s| FamilySpace::new(s, problem))
        .map(|s| (least(&s), s))
        .filter(|s| s.0.is_finite())
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let limit = all.first().map_or(0.0, |a| 2.0 * a.0);
    all.into_iter().filter(|a| a.0 <= limit).map(|a| a.1).collect()
}

/// Measures proposals, tells the history, and lets the searcher learn.
fn measure(
    measurer: &mut Measurer<'_>,
    space: &FamilySpace<'_>,
    history: &mut History,
    proposals: Vec<Values>,
    searcher: &mut dyn Searcher,
) -> Outcome {
    let made: Vec<_> = proposals.iter().map(|v| space.family.generate(v)).collect();
    let (legal, kernels): (Vec<&Values>, Vec<_>) = proposals.iter().zip(made).filter_map(|(v, m)| Some((v, m.ok()?))).unzip();
    let times = measurer.times(&kernels)?;
    let new = proposals.len();
    for values in &proposals {
        let at = legal.iter().position(|l| *l == values);
        history.tell(values.clone(), at.and_then(|i| times.get(i).copied().flatten()));
    }
    searcher.learn(space, history, new);
    Ok(())
}

/// Names the problems without a record.
fn check(compiled: &Compiled) -> Outcome {
    for (path, reason) in &compiled.records.unread {
        println!("not a record: {}: {reason}", path.display());
    }
    if compiled.untuned.is_empty() {
        println!("every problem has a record");
        return Ok(());
    }
    for (arch, (problem, _, reason)) in &compiled.untuned {
        println!("{}: {} {}: {reason}", arch.target, problem.family(), problem.describe());
    }
    Err(format!("{} problems have no record: run `cargo wpk tune` with the same options on a machine with the GPU", compiled.untuned.len())
        .into())
}

/// Keeps other measurements off the GPU until it is dropped.
fn lock(device: usize) -> Result<std::fs::File, Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("wpk-gpu-{device}.lock"));
    let file = std::fs::File::options().create(true).append(true).open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another measurement on device {device} to end ({})", path.display());
        file.lock().map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(file)
}
