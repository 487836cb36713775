//! `cargo wpk tune --device cpu`: searches for the fastest schedules of a model's products on this processor, by the searches that GPUs have.
//! Kernels are the runtime's own, so they are measured in this process.

use crate::Outcome;
use crate::lock::{Holder, hold};
use crate::run::{bind, inputs};
use crate::search::{self, FEATURES, History, Rng, Space, Values, features};
use crate::tune::TuneArgs;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use wpk_build::Compiled;
use wpk_build::records::{Key, Record, Timed};
use wpk_kernels::Tensor;
use wpk_kernels::schedule::Param;
use wpk_plan::problem::{Contraction, Problem};
use wpk_plan::{CpuSchedule, CpuSchedules, WeightLayout};
use wpk_rt::trial::{Ready, Trial, identity, threads};

/// How long a schedule is timed in a search, and as one of the fastest.
const SEARCHED: Duration = Duration::from_millis(8);
const FINAL: Duration = Duration::from_millis(60);
/// The fastest that are timed again, and how much faster than the estimate's choice a schedule must be.
const FINALISTS: usize = 4;
const GAIN: f64 = 0.98;
/// The largest relative error in the 2-norm beside the estimate's choice.
const ERROR: f64 = 1e-4;
/// Bytes of weights beyond which a model's are read from memory in every run.
const CACHED: usize = 8 << 20;

/// A family's schedules of a product on this processor.
struct CpuSpace<'a> {
    family: &'static str,
    params: Vec<Param>,
    trial: &'a Trial,
    features: [f64; FEATURES],
}

impl CpuSpace<'_> {
    fn schedule(&self, values: &[u32]) -> Option<CpuSchedule> {
        CpuSchedule::of(self.family, values)
    }
}

impl Space for CpuSpace<'_> {
    fn params(&self) -> &[Param] {
        &self.params
    }

    /// How far a schedule is from the middle of every parameter: those in the middle suit most problems.
    fn estimate(&self, values: &[u32]) -> Option<f64> {
        let known = values.len() == self.params.len() && values.iter().zip(&self.params).all(|(v, p)| p.values.contains(v));
        let place = |(v, p): (&u32, &Param)| (search::index(p, *v) as f64 - (p.values.len() - 1) as f64 / 2.0).abs();
        let fits = known && self.schedule(values).is_some_and(|s| self.trial.takes(&s));
        fits.then(|| 1.0 + values.iter().zip(&self.params).map(place).sum::<f64>())
    }

    fn all(&self) -> Vec<(Values, f64)> {
        let mut all: Vec<Values> = vec![vec![]];
        for p in &self.params {
            all = all.iter().flat_map(|v| p.values.iter().map(|&x| [v.as_slice(), &[x]].concat())).collect();
        }
        all.into_iter().filter_map(|v| Some((v.clone(), self.estimate(&v)?))).collect()
    }

    fn features(&self) -> [f64; FEATURES] {
        self.features
    }
}

/// The products of a model's CPU plans, those that compute most first.
fn products(compiled: &Compiled) -> Vec<(Contraction, WeightLayout)> {
    let mut known: BTreeMap<String, (u64, Contraction, WeightLayout)> = BTreeMap::new();
    for step in compiled.program.buckets.iter().flat_map(|b| b.1.body.steps()) {
        if let Problem::Contraction(c) = step.kernel.problem() {
            let key = Key::on(step.kernel.problem(), step.kernel.layout(), "").hex();
            known.entry(key).or_insert_with(|| (0, c.clone(), step.kernel.layout())).0 += step.kernel.problem().operations();
        }
    }
    let mut all: Vec<_> = known.into_values().collect();
    all.sort_by_key(|p| std::cmp::Reverse(p.0));
    all.into_iter().map(|p| (p.1, p.2)).collect()
}

pub fn tune(args: &TuneArgs) -> Outcome {
    if let Some(n) = args.threads {
        wpk_rt::set_threads(n);
    }
    let target = CpuSchedules::target(identity(), threads());
    let model = args.model.model();
    let model = if args.check { model } else { model.records(&args.out) };
    let compiled = model.build()?;
    let missing = |compiled: &Compiled| {
        let record =
            |(c, layout): &(Contraction, WeightLayout)| compiled.records.get(&Key::on(&Problem::Contraction(c.clone()), *layout, &target));
        products(compiled).into_iter().filter(|p| record(p).is_none()).collect::<Vec<_>>()
    };
    let cold = compiled.blob.len() > CACHED;
    let tried = |(c, layout): &(Contraction, WeightLayout)| Trial::new(c, *layout, cold);
    let untuned: Vec<_> = missing(&compiled).into_iter().filter(|p| tried(p).is_some()).collect();
    if args.check {
        return check(args, &target, &untuned);
    }
    let _alone = hold(0, Holder::Cpu)?;
    let end = Instant::now() + Duration::from_secs_f64(args.budget);
    let mut written = vec![];
    for (i, product) in untuned.iter().enumerate() {
        if Instant::now() >= end {
            break;
        }
        let share = end.saturating_duration_since(Instant::now()) / (untuned.len() - i) as u32;
        let Some(trial) = tried(product) else { continue };
        let (record, line) = one(args, &target, product, &trial, Instant::now() + share)?;
        eprintln!("[{}/{}] {line}", i + 1, untuned.len());
        record.write(&args.out)?;
        written.push(record);
    }
    let tuned = model.build()?;
    let (before, after) = whole(args, &tuned)?;
    // Neighbours share the caches: the whole plan decides.
    let kept = after <= before;
    for record in written.iter_mut().filter(|_| !kept) {
        left_to_estimate(record);
        record.write(&args.out)?;
    }
    let (records, left) = (written.len(), untuned.len() - written.len());
    if args.model.json {
        println!(
            "{}",
            json!({"device": identity(), "threads": threads(), "records": records, "untuned": left, "heuristic_ns": before, "tuned_ns": after})
        );
        return Ok(());
    }
    println!("{records} new records of {target} in {}; {left} products have none", args.out.display());
    let told = if kept { "" } else { ": the new records leave the choice to the estimate" };
    println!("the whole plan takes {:.3} ms, {:.3} ms without records{told}", after / 1e6, before / 1e6);
    Ok(())
}

/// Searches for the schedules of one product; its record, and what to say of it.
fn one(
    args: &TuneArgs,
    target: &str,
    (c, layout): &(Contraction, WeightLayout),
    trial: &Trial,
    end: Instant,
) -> Result<(Record, String), Box<dyn std::error::Error>> {
    let (begin, problem) = (Instant::now(), Problem::Contraction(c.clone()));
    let estimated = trial.bind(None)?;
    trial.run(&estimated, 0);
    let reference = trial.result();
    let mut measured: Vec<Timed> = vec![];
    let mut finder = String::new();
    for (family, params) in CpuSchedule::FAMILIES {
        let params = params.iter().map(|&(name, values)| Param { name, values }).collect();
        let space = CpuSpace { family, params, trial, features: features(&problem) };
        let mut searcher = search::by_name(&args.search, args.seed).ok_or_else(|| format!("there is no search {:?}", args.search))?;
        let mut measure = |all: &[Values]| Ok(all.iter().map(|v| checked(trial, space.schedule(v)?, &reference)).collect());
        let mut history = History::default();
        if !space.all().is_empty() {
            search::explore((&space as &dyn Space, &[]), searcher.as_mut(), &mut history, end, &mut measure)?;
            searcher.name().clone_into(&mut finder);
        }
        let times = history.best(usize::MAX);
        measured.extend(times.into_iter().map(|(values, ns)| Timed::schedule(family, &space.params, values, ns)));
    }
    let count = measured.len();
    measured.sort_by(|a, b| a.ns.total_cmp(&b.ns));
    measured.truncate(FINALISTS);
    let (own, best) = finals(trial, &estimated, measured, args.seed)?;
    let key = Key::on(&problem, *layout, target);
    let fastest = best.iter().map(|t| t.ns).fold(f64::INFINITY, f64::min);
    let mut record = Record::new(&key, &problem, (identity(), target), best, None).ok_or("nothing gave right results")?;
    record.search = (finder, count as u64);
    if fastest > GAIN * own {
        left_to_estimate(&mut record);
        record.best[0].ns = own.round();
    }
    let took = begin.elapsed().as_secs_f64();
    let line = format!("{}: {:.1} us, {:.1} by estimate, after {count} in {took:.1} s", problem.describe(), fastest / 1e3, own / 1e3);
    Ok((record, line))
}

/// A first family that the runtime does not know leaves the choice to its estimate.
fn left_to_estimate(record: &mut Record) {
    let ns = record.best[0].ns;
    record.best.insert(0, Timed { family: "estimate".to_owned(), schedule: BTreeMap::new(), ns });
}

/// Nanoseconds of a schedule that gives right results.
fn checked(trial: &Trial, schedule: CpuSchedule, reference: &[f32]) -> Option<f64> {
    let ready = trial.bind(Some(&schedule)).ok()?;
    trial.run(&ready, 0);
    let norm = |f: &dyn Fn(usize) -> f32| (0..reference.len()).map(|i| f64::from(f(i)).powi(2)).sum::<f64>().sqrt();
    let found = trial.result();
    let right = norm(&|i| found[i] - reference[i]) <= ERROR * norm(&|i| reference[i]);
    right.then(|| trial.time(&ready, SEARCHED))
}

/// The estimate's choice and the fastest in turn, in shuffled order.
fn finals(trial: &Trial, estimated: &Ready, mut rest: Vec<Timed>, seed: u64) -> Result<(f64, Vec<Timed>), String> {
    let mut rng = Rng::new(seed);
    let mut order = vec![];
    while !rest.is_empty() {
        order.push(rest.swap_remove(rng.below(rest.len())));
    }
    let mut own = trial.time(estimated, FINAL);
    for timed in &mut order {
        let schedule = CpuSchedule::named(&timed.family, &timed.schedule).ok_or("a schedule that is none")?;
        timed.ns = trial.time(&trial.bind(Some(&schedule))?, FINAL).round();
        own = own.min(trial.time(estimated, FINAL / 4));
    }
    Ok((own, order))
}

/// Median nanoseconds of the first plan by estimates and by records, in turn.
fn whole(args: &TuneArgs, compiled: &Compiled) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let mut without = compiled.program.clone();
    without.cpus.clear();
    let plain = wpk_rt::Model::new(without, wpk_rt::Weights::Owned(compiled.blob.to_bytes()), wpk_rt::Device::Cpu)?;
    let models = [plain, bind(compiled, compiled.blob.to_bytes(), None)?];
    let plan = &compiled.program.buckets[0].1;
    let given: Vec<Vec<u8>> = inputs(&args.model.model, &plan.inputs)?.iter().map(Tensor::to_bytes).collect();
    let slices: Vec<&[u8]> = given.iter().map(Vec::as_slice).collect();
    let mut results: Vec<Vec<u8>> = plan.outputs.iter().map(|p| vec![0; p.bytes()]).collect();
    let mut times = [vec![], vec![]];
    let begin = Instant::now();
    while times[0].len() < 5 || begin.elapsed() < Duration::from_secs(2) && times[0].len() < 400 {
        for (model, times) in models.iter().zip(&mut times) {
            let start = Instant::now();
            model.run(0, &slices, &mut results.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>())?;
            times.push(start.elapsed().as_nanos() as f64);
        }
    }
    let [before, after] = times.map(|mut t| {
        t.sort_by(f64::total_cmp);
        t[t.len() / 2]
    });
    Ok((before, after))
}

/// Names the products without a record.
fn check(args: &TuneArgs, target: &str, untuned: &[(Contraction, WeightLayout)]) -> Outcome {
    let names: Vec<String> = untuned.iter().map(|(c, _)| Problem::Contraction(c.clone()).describe()).collect();
    if args.model.json {
        println!("{}", json!({"target": target, "untuned": names}));
    } else {
        names.iter().for_each(|n| println!("{target}: {n}"));
    }
    match names.len() {
        0 => {
            if !args.model.json {
                println!("every product has a record");
            }
            Ok(())
        }
        n => Err(format!("{n} products have no record: run `cargo wpk tune --device cpu` with the same options").into()),
    }
}
