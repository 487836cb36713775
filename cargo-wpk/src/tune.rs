//! `cargo wpk tune`: searches for the fastest schedules and calls of a model's problems on a GPU, and writes records.

use crate::lock::{Holder, hold};
use crate::log::Log;
use crate::measure::Surroundings;
use crate::search::space::FamilySpace;
use crate::search::{self, History, Rng, Space, Values};
use crate::worker::{Limits, Worker};
use crate::{ModelArgs, Outcome};
use crate::{tune_cpu, whole};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wpk_build::records::{FOLDER, Key, Record, Records, Timed, file, user_folder};
use wpk_build::{Compiled, Untuned};
use wpk_kernels::arch::Arch;
use wpk_kernels::family::{heuristic, spaces};
use wpk_plan::WeightLayout;
use wpk_plan::problem::Problem;

#[derive(Args)]
pub struct TuneArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Fails where the model has problems without a record, and names them; needs no GPU
    #[arg(long)]
    pub check: bool,
    /// How schedules are found: ga, rl, random or auto
    #[arg(long, default_value = "auto")]
    pub search: String,
    /// Seconds for the model
    #[arg(long, default_value_t = 60.0)]
    pub budget: f64,
    /// The search's seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// With `--device cpu`, the threads that a product is shared by; all of them without it
    #[arg(long)]
    pub threads: Option<usize>,
    /// Takes every N-th problem, the I-th first, as I/N
    #[arg(long, value_parser = shard)]
    pub shard: Option<(usize, usize)>,
    /// Where records go
    #[arg(long, default_value = FOLDER)]
    pub out: PathBuf,
    /// Goes on from what an interrupted search measured
    #[arg(long)]
    resume: bool,
    /// Generated kernels alone: no calls of cuDNN and cuBLASLt
    #[arg(long)]
    no_libraries: bool,
    /// For tests: no device, times made of estimates; one candidate in so many fails, none for 0
    #[arg(long, hide = true)]
    simulate: Option<u64>,
    /// For tests: on the device, one candidate in so many crashes, hangs or writes where it must not
    #[arg(long, hide = true)]
    plant: Option<u64>,
    /// Seconds within which a candidate must be measured
    #[arg(long, hide = true, default_value_t = 10.0)]
    limit: f64,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let (i, n) = text.split_once('/').ok_or("expected I/N")?;
    let number = |s: &str| s.parse::<usize>().map_err(|e| format!("{s:?}: {e}"));
    let (i, n) = (number(i)?, number(n)?);
    if i < n { Ok((i, n)) } else { Err(format!("there is no shard {i} of {n}: they begin at 0")) }
}

/// Rounds of compiling and tuning: a measured plan may prefer another cover, with problems of its own.
const ROUNDS: usize = 3;
/// The part of the time that is kept for measuring whole plans.
const WHOLE: f64 = 0.15;
/// The fastest that are measured again, in another order and for longer.
const FINALISTS: usize = 5;

pub fn tune(args: &TuneArgs) -> Outcome {
    if args.model.device == Some(wpk_rt::Device::Cpu) {
        return tune_cpu::tune(args);
    }
    let model = if args.check { args.model.model() } else { args.model.model().records(&args.out) };
    let compiled = model.build()?;
    if let Some((arch, steps)) = compiled.refused.first() {
        return Err(format!("no plan for {arch}:\n  {}", steps.join("\n  ")).into());
    }
    if args.check {
        return check(args, &compiled);
    }
    if args.model.cuda().is_none() && args.simulate.is_none() {
        return Err("name the GPU to measure on: `--gpu sm_90a --device 0`; without one, `--check` tells what is missing".into());
    }
    search::by_name(&args.search, args.seed).ok_or_else(|| format!("there is no search {:?}: ga, rl, random or auto", args.search))?;
    let mut tuner = Tuner::new(args)?;
    let mut compiled = compiled;
    for _ in 0..ROUNDS {
        let mine = |i: usize| args.shard.is_none_or(|(first, n)| i % n == first);
        let untuned: Vec<&Untuned> = compiled.untuned.iter().enumerate().filter(|(i, _)| mine(*i)).map(|u| u.1).collect();
        if untuned.is_empty() || Instant::now() >= tuner.end {
            break;
        }
        tuner.around.cold = cold(&compiled);
        let mut order = untuned.clone();
        order.sort_by_cached_key(|u| std::cmp::Reverse(share_of_plan(&compiled, u)));
        for (i, (arch, (problem, layout, _))) in order.iter().enumerate() {
            if Instant::now() >= tuner.end {
                break;
            }
            let left = tuner.end.saturating_duration_since(Instant::now());
            let share = left / (untuned.len() - i) as u32;
            tuner.one((problem, *layout, arch), share, &format!("[{}/{}]", i + 1, untuned.len()))?;
        }
        compiled = model.build()?;
    }
    for note in &tuner.worker.notes {
        eprintln!("a library was not used: {note}");
    }
    let totals = whole::decide(args, &mut tuner, &mut compiled)?;
    // The cover that was fastest may hold problems of its own: their first schedules are measured whatever time is left.
    if totals.is_some() && !compiled.untuned.is_empty() {
        for (arch, (problem, layout, _)) in &compiled.untuned {
            tuner.one((problem, *layout, arch), Duration::ZERO, "[cover]")?;
        }
        compiled = model.build()?;
    }
    let (records, untuned) = (compiled.records.iter().count(), compiled.untuned.len());
    if args.model.json {
        let (heuristic, tuned) = totals.unwrap_or_default();
        println!("{}", json!({"records": records, "folder": args.out, "untuned": untuned, "heuristic_ns": heuristic, "tuned_ns": tuned}));
        return Ok(());
    }
    println!("{records} records in {}; {untuned} problems have none", args.out.display());
    if let Some((heuristic, tuned)) = totals {
        println!("the whole plan takes {:.4} ms, {:.4} ms without records", tuned / 1e6, heuristic / 1e6);
    }
    Ok(())
}

/// Nanoseconds of a model's plans that a problem takes by its estimate: what takes longest is tuned first, as time may run out.
fn share_of_plan(compiled: &Compiled, (arch, (problem, layout, _)): &Untuned) -> u64 {
    let plans = compiled.program.gpus.iter().filter(|g| g.arch == arch.target).flat_map(|g| &g.plans);
    let count = plans.flat_map(|p| p.body.steps()).filter(|s| s.kernel.problem() == problem && s.kernel.layout() == *layout).count();
    let cost = heuristic(problem, *layout, arch).map_or(0.0, |made| made.cost);
    (cost * count as f64) as u64
}

/// Whether a model's weights are so large that they are read from memory in every run: more than 60 % of the second cache.
fn cold(compiled: &Compiled) -> bool {
    let used = |g: &wpk_plan::GpuPlans| {
        let arch = Arch::named(&g.arch)?;
        let places = g.plans.iter().flat_map(|p| p.body.steps()).flat_map(|s| &s.args);
        let mut sections: Vec<u32> = places.filter_map(|a| if let wpk_plan::Place::Weight(i) = a.place { Some(i) } else { None }).collect();
        sections.sort_unstable();
        sections.dedup();
        let bytes: usize = sections.iter().map(|&i| compiled.program.sections[i as usize].bytes).sum();
        Some(bytes as f64 > 0.6 * arch.cache as f64)
    };
    compiled.program.gpus.iter().filter_map(used).any(|c| c)
}

/// A search under way.
pub struct Tuner<'a> {
    args: &'a TuneArgs,
    /// The process that measures.
    pub worker: Worker,
    /// The device's name.
    pub device: String,
    /// When time is up for single problems.
    end: Instant,
    /// When time is up.
    pub last: Instant,
    around: Surroundings,
    logs: Option<PathBuf>,
}

impl<'a> Tuner<'a> {
    fn new(args: &'a TuneArgs) -> Result<Self, String> {
        let mut arguments = vec!["--device".to_owned(), args.model.cuda().unwrap_or(0).to_string()];
        arguments.extend(args.simulate.into_iter().flat_map(|n| ["--simulate".to_owned(), n.to_string()]));
        arguments.extend(args.plant.into_iter().flat_map(|n| ["--plant".to_owned(), n.to_string()]));
        let limits = Limits { candidate: Duration::from_secs_f64(args.limit), ..Limits::default() };
        let mut worker = Worker::new(arguments, limits);
        let device = worker.device()?;
        let logs = user_folder(|name| std::env::var(name).ok()).map(|f| f.with_file_name("log"));
        let (now, budget) = (Instant::now(), Duration::from_secs_f64(args.budget));
        let (end, last) = (now + budget.mul_f64(1.0 - WHOLE), now + budget);
        Ok(Self { args, worker, device, end, last, around: Surroundings { cold: false, early: true }, logs })
    }

    /// Keeps other searches off the device until it is dropped.
    pub fn lock(&self) -> Result<std::fs::File, String> {
        hold(self.args.model.cuda().unwrap_or(0), Holder::Search)
    }

    /// Tunes one problem within some time and writes its record.
    fn one(&mut self, (problem, layout, arch): (&Problem, WeightLayout, &Arch), time: Duration, place: &str) -> Outcome {
        let lock = self.lock()?;
        let key = Key::new(problem, layout, arch);
        let name = format!("{} {}", problem.family(), problem.describe());
        let records = Records::open(std::slice::from_ref(&self.args.out));
        // Another search may have been here while this one waited.
        let preferred = heuristic(problem, layout, arch)?.family;
        let serves = |r: &Record| r.generate((problem, layout, arch), preferred).is_ok();
        if records.get(&key).is_some_and(serves) {
            return Ok(());
        }
        let begin = Instant::now();
        let end = begin + time;
        if let Err(reason) = self.worker.begin(&key.hex(), self.around) {
            eprintln!("{place} {name}: {reason}");
            return Ok(());
        }
        let file = file(&self.device, problem.family(), &key.hex());
        let mut log = Log::open(self.logs.as_deref(), &file, self.args.resume);
        let mut measured: Vec<(Timed, crate::measure::Outcome)> = std::mem::take(&mut log.before);
        let mut finder = String::new();
        let families = promising(problem, layout, arch, preferred);
        for space in &families {
            let similar = records.similar(problem, layout, arch);
            let similar: Vec<Values> =
                similar.iter().filter(|s| s.1.family == space.family.family).filter_map(|s| s.1.values(space.params())).collect();
            finder = self.search(space, &similar, end, &mut measured, &mut log)?;
        }
        if !self.args.no_libraries {
            let known = |c: &Timed| measured.iter().any(|m| m.0.family == c.family && m.0.schedule == c.schedule);
            let calls: Vec<Timed> = self.worker.calls().unwrap_or_default().into_iter().filter(|c| !known(c)).collect();
            self.measure(&calls, 5, &mut measured, &mut log)?;
        }
        let count = measured.len();
        let best = self.finals(measured)?;
        drop(lock);
        let Some(mut record) = Record::new(&key, problem, (&self.device, arch.target), best, whole::choice(problem, layout, arch)) else {
            eprintln!("{place} {name}: nothing of {count} gave right results");
            return Ok(());
        };
        record.families.extend(families.iter().map(|f| f.family.family.to_owned()));
        record.search = (finder, count as u64);
        record.seal(problem, layout, arch)?;
        record.write(&self.args.out)?;
        if let Some(schedule) = record.schedule() {
            let (capability, image) = self.worker.cubin(schedule)?;
            let image = wpk_plan::Bytes(image);
            record.write_cubin(&self.args.out, &wpk_plan::Cubin { capability, image })?;
        }
        let left = self.end.saturating_duration_since(Instant::now()).as_secs();
        let (best, took) = (&record.best[0], begin.elapsed().as_secs_f64());
        eprintln!("{place} {name}: {:.2} us by {} after {count} in {took:.1} s; {left} s left", best.ns / 1e3, best.family);
        Ok(())
    }

    /// Searches a family's schedules; returns the search's name.
    fn search(
        &mut self,
        space: &FamilySpace<'_>,
        similar: &[Values],
        end: Instant,
        measured: &mut Vec<(Timed, crate::measure::Outcome)>,
        log: &mut Log,
    ) -> Result<String, Box<dyn std::error::Error>> {
        let policy = policy_file(&self.args.out, &self.device, space.family.family);
        let mut searcher = search::trained(&self.args.search, self.args.seed, &policy).ok_or("no such search")?;
        let mut history = History::default();
        for (timed, outcome) in measured.iter().filter(|m| m.0.family == space.family.family) {
            if let Some(values) = timed.values(space.params()) {
                history.tell(values, outcome.as_ref().ok().copied());
            }
        }
        let mut measure = |proposals: &[Values]| {
            let named: Vec<Timed> = proposals.iter().map(|v| Timed::schedule(space.family.family, space.params(), v, 0.0)).collect();
            let from = measured.len();
            self.measure(&named, 5, measured, log)?;
            Ok(measured[from..].iter().map(|m| m.1.as_ref().ok().copied()).collect())
        };
        search::explore((space as &dyn Space, similar), searcher.as_mut(), &mut history, end, &mut measure)?;
        search::keep(searcher.as_ref(), &policy)?;
        Ok(searcher.name().to_owned())
    }

    /// Measures candidates, and keeps what came of them.
    fn measure(
        &mut self,
        candidates: &[Timed],
        rounds: usize,
        measured: &mut Vec<(Timed, crate::measure::Outcome)>,
        log: &mut Log,
    ) -> Result<(), String> {
        let outcomes = self.worker.time(candidates, rounds)?;
        let from = measured.len();
        measured.extend(candidates.iter().cloned().zip(outcomes).map(|(timed, outcome)| {
            let ns = *outcome.as_ref().unwrap_or(&0.0);
            (Timed { ns, ..timed }, outcome)
        }));
        log.add(&measured[from..]);
        Ok(())
    }

    /// The fastest once more, for longer and in another order; then everything that gave right results.
    fn finals(&mut self, measured: Vec<(Timed, crate::measure::Outcome)>) -> Result<Vec<Timed>, String> {
        let mut right: Vec<Timed> = measured.into_iter().filter(|m| m.1.is_ok()).map(|m| m.0).collect();
        right.sort_by(|a, b| a.ns.total_cmp(&b.ns));
        let rest = right.split_off(right.len().min(FINALISTS));
        let mut rng = Rng::new(self.args.seed);
        let mut order: Vec<Timed> = vec![];
        while !right.is_empty() {
            order.push(right.swap_remove(rng.below(right.len())));
        }
        let again = self.worker.time(&order, 15)?;
        let again = order.into_iter().zip(again).filter_map(|(timed, outcome)| Some(Timed { ns: outcome.ok()?.round(), ..timed }));
        let mut all: Vec<Timed> = again.collect();
        // What was not measured again is not faster than what was.
        let last = all.iter().map(|t| t.ns).fold(0.0, f64::max);
        all.extend(rest.into_iter().map(|t| Timed { ns: t.ns.max(last).round(), ..t }));
        Ok(all)
    }
}

/// Where the weights of a family's policy are kept.
fn policy_file(out: &Path, device: &str, family: &str) -> PathBuf {
    out.join(wpk_build::records::slug(device)).join(format!("policy-{family}.weights"))
}

/// The family that estimates prefer, and those whose best estimate is not far from the best of all.
fn promising<'a>(problem: &Problem, layout: WeightLayout, arch: &'a Arch, preferred: &str) -> Vec<FamilySpace<'a>> {
    let least = |s: &FamilySpace<'_>| s.all().iter().map(|a| a.1).fold(f64::INFINITY, f64::min);
    let mut all: Vec<(f64, FamilySpace<'a>)> = spaces(problem, layout, arch)
        .into_iter()
        .map(|s| FamilySpace::new(s, problem))
        .map(|s| (least(&s), s))
        .filter(|s| s.0.is_finite())
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let limit = all.first().map_or(0.0, |a| 2.0 * a.0);
    all.into_iter().filter(|a| a.0 <= limit || a.1.family.family == preferred).map(|a| a.1).collect()
}

/// Names the problems without a record.
fn check(args: &TuneArgs, compiled: &Compiled) -> Outcome {
    if args.model.json {
        let problem = |(arch, (p, _, reason)): &Untuned| json!({"arch": arch.target, "problem": format!("{} {}", p.family(), p.describe()), "reason": reason});
        let unread: Vec<_> = compiled.records.unread.iter().map(|(path, reason)| json!({"path": path, "reason": reason})).collect();
        println!("{}", json!({"untuned": compiled.untuned.iter().map(problem).collect::<Vec<_>>(), "unread": unread}));
    } else {
        for (path, reason) in &compiled.records.unread {
            println!("not a record: {}: {reason}", path.display());
        }
        for (arch, (problem, _, reason)) in &compiled.untuned {
            println!("{}: {} {}: {reason}", arch.target, problem.family(), problem.describe());
        }
    }
    if compiled.untuned.is_empty() {
        if !args.model.json {
            println!("every problem has a record");
        }
        return Ok(());
    }
    Err(format!("{} problems have no record: run `cargo wpk tune` with the same options on a machine with the GPU", compiled.untuned.len())
        .into())
}
