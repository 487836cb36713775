//! What only the whole plan tells: neighbours share the second cache, and covers differ in more than their kernels. Covers, and
//! finalists that single measurements cannot tell apart, are decided by the time of the plan.

use crate::measure::Surroundings;
use crate::tune::{TuneArgs, Tuner};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use wpk_build::records::{Key, PlanFile, Record, Records, Timed};
use wpk_build::{Compiled, Model};
use wpk_kernels::arch::Arch;
use wpk_kernels::family::spaces;
use wpk_plan::WeightLayout;
use wpk_plan::problem::Problem;

/// How much slower than the best a finalist may have been by itself.
const CLOSE: f64 = 1.04;
/// How much faster a plan must be for another finalist to be taken.
const GAIN: f64 = 0.995;
/// How much slower than the chosen cover another may be estimated.
const NEAR: f64 = 1.25;

/// Nanoseconds of a model's first GPU plan.
fn total(tuner: &mut Tuner<'_>, compiled: &Compiled, folder: &Path) -> Result<f64, String> {
    let (program, weights) = (folder.join("program"), folder.join("weights"));
    let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()));
    write(&program, &compiled.program.to_bytes())?;
    write(&weights, &compiled.blob.to_bytes())?;
    tuner.worker.plan(&program, &weights)
}

/// Decides covers and finalists, writes the plan file, and returns the nanoseconds of the plan without records and with them.
pub fn decide(args: &TuneArgs, tuner: &mut Tuner<'_>, compiled: &mut Compiled) -> Result<Option<(f64, f64)>, Box<dyn std::error::Error>> {
    // Of several buckets the first would be timed alone, and a shard lacks the records of others.
    let [gpu] = &compiled.program.gpus[..] else { return Ok(None) };
    if gpu.plans.len() != 1 || args.shard.is_some() {
        return Ok(None);
    }
    let lock = tuner.lock()?;
    let folder = tempfile::tempdir()?;
    let model = args.model.model().records(&args.out);
    let none = tempfile::tempdir()?;
    let heuristic = total(tuner, &args.model.model().records(none.path()).build()?, folder.path())?;
    let mut best = total(tuner, compiled, folder.path())?;
    let mut cover = compiled.choices[1].iter().find(|c| c.chosen).map(|c| c.name).unwrap_or_default();
    let (first, limit) = (cover, compiled.choices[1].iter().find(|c| c.chosen).map_or(0.0, |c| NEAR * c.cost));
    for other in compiled.choices[1].clone().iter().filter(|c| c.name != first && c.cost <= limit) {
        let tried = model.clone().cover(other.name).build()?;
        let ns = total(tuner, &tried, folder.path())?;
        if ns < GAIN * best {
            (best, cover) = (ns, other.name);
        }
    }
    let model = model.cover(cover);
    if heuristic < best {
        best = estimates(args, tuner, (&model, folder.path()), best)?;
    }
    best = finalists(args, tuner, (&model, folder.path()), best)?;
    *compiled = model.build()?;
    drop(lock);
    if let Some(name) = compiled.plan_names.first() {
        let records = compiled.records.iter().map(|r| r.file().display().to_string()).collect();
        let file = PlanFile { device: tuner.device.clone(), cover: cover.to_owned(), records, ns: best, heuristic };
        file.write(&args.out, name)?;
    }
    eprintln!("the whole plan is fastest as: {cover}");
    Ok(Some((heuristic, best)))
}

/// Where the plan of estimates is faster, takes the estimate's choice for every record at once: [`finalists`] then brings back what is worth it.
fn estimates(
    args: &TuneArgs,
    tuner: &mut Tuner<'_>,
    (model, folder): (&Model, &Path),
    best: f64,
) -> Result<f64, Box<dyn std::error::Error>> {
    let counts = counts(&model.build()?);
    let records = Records::open(std::slice::from_ref(&args.out));
    let mut before = vec![];
    for record in records.iter().filter(|r| counts.contains_key(r.key())) {
        let Some(k) = estimated(record).filter(|&k| k > 0) else { continue };
        let Some((other, cubin)) = exchanged(tuner, record, k)? else { continue };
        other.write(&args.out)?;
        cubin.iter().try_for_each(|c| other.write_cubin(&args.out, c))?;
        before.push(record);
    }
    let ns = total(tuner, &model.build()?, folder)?;
    if ns < best {
        return Ok(ns);
    }
    before.into_iter().try_for_each(|r| r.write(&args.out).map(drop))?;
    Ok(best)
}

/// Tries other schedules of the plan's records while there is time, those that take longest first: one that was hardly slower by itself, and
/// the estimate's choice, since in a plan neighbours overlap and share the second cache.
fn finalists(
    args: &TuneArgs,
    tuner: &mut Tuner<'_>,
    (model, folder): (&Model, &Path),
    mut best: f64,
) -> Result<f64, Box<dyn std::error::Error>> {
    let counts = counts(&model.build()?);
    let records = Records::open(std::slice::from_ref(&args.out));
    let time = |r: &Record| counts.get(r.key()).map(|&n| n as f64 * r.best[0].ns);
    let mut used: Vec<(f64, &Record)> = records.iter().filter_map(|r| Some((time(r)?, r))).collect();
    used.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, record) in used {
        let mut current = record.clone();
        for other in others(record) {
            if Instant::now() >= tuner.last {
                return Ok(best);
            }
            let Some((other, cubin)) = exchanged(tuner, record, other)? else { continue };
            other.write(&args.out)?;
            cubin.iter().try_for_each(|c| other.write_cubin(&args.out, c))?;
            match total(tuner, &model.build()?, folder) {
                Ok(ns) if ns < GAIN * best => (best, current) = (ns, other),
                _ => drop(current.write(&args.out)?),
            }
        }
    }
    Ok(best)
}

/// How often each problem of the GPU plans occurs, by its key.
fn counts(compiled: &Compiled) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for gpu in &compiled.program.gpus {
        let Some(arch) = Arch::named(&gpu.arch) else { continue };
        for step in gpu.plans.iter().flat_map(|p| p.body.steps()) {
            *counts.entry(Key::new(step.kernel.problem(), step.kernel.layout(), arch).hex()).or_insert(0) += 1;
        }
    }
    counts
}

/// Which of a record's candidates are worth a whole plan: the second where it is close, and the estimate's choice.
fn others(record: &Record) -> Vec<usize> {
    let close = record.best.get(1).filter(|t| t.ns < CLOSE * record.best[0].ns).map(|_| 1);
    let mut others: Vec<usize> = close.into_iter().chain(estimated(record)).filter(|&k| k > 0).collect();
    others.dedup();
    others
}

/// Where the estimate's choice is among a record's candidates.
fn estimated(record: &Record) -> Option<usize> {
    let (target, layout, problem) = Key::parts(record.key())?;
    let choice = choice(&problem, layout, Arch::named(&target)?)?;
    record.best.iter().position(|t| t.family == choice.family && t.schedule == choice.schedule)
}

/// The schedule of least estimate.
pub fn choice(problem: &Problem, layout: WeightLayout, arch: &Arch) -> Option<Timed> {
    let all = spaces(problem, layout, arch);
    let least = all.iter().flat_map(|s| s.all().into_iter().map(move |c| (s, c))).min_by(|a, b| a.1.cost.total_cmp(&b.1.cost))?;
    Some(Timed::schedule(least.0.family, least.0.params, &least.1.values, 0.0))
}

/// A record with another candidate first, and what its fastest schedule is then compiled to.
fn exchanged(tuner: &mut Tuner<'_>, record: &Record, first: usize) -> Result<Option<(Record, Option<wpk_plan::Cubin>)>, String> {
    let Some((target, layout, problem)) = Key::parts(record.key()) else { return Ok(None) };
    let Some(arch) = Arch::named(&target) else { return Ok(None) };
    let mut other = record.clone();
    other.best[..=first].rotate_right(1);
    other.seal(&problem, layout, arch)?;
    if other.ptx == record.ptx {
        return Ok(Some((other, None)));
    }
    tuner.worker.begin(record.key(), Surroundings::default())?;
    let Some(schedule) = other.schedule() else { return Ok(None) };
    let (capability, image) = tuner.worker.cubin(schedule)?;
    Ok(Some((other, Some(wpk_plan::Cubin { capability, image: wpk_plan::Bytes(image) }))))
}
