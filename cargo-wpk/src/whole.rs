//! What only the whole plan tells: neighbours share the second cache, and covers differ in more than their kernels. Covers, and
//! finalists that single measurements cannot tell apart, are decided by the time of the plan.

use crate::tune::{TuneArgs, Tuner};
use std::path::Path;
use std::time::Instant;
use wpk_build::records::{Key, PlanFile, Record, Records};
use wpk_build::{Compiled, Model};
use wpk_kernels::arch::Arch;

/// How much slower than the best a finalist may have been by itself.
const CLOSE: f64 = 1.04;
/// How much faster a plan must be for another finalist to be taken.
const GAIN: f64 = 0.995;
/// How much slower than the chosen cover another may be estimated.
const NEAR: f64 = 1.25;
/// Finalists that are tried.
const TRIALS: usize = 8;

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

/// Tries the second of records whose first two are close, those that take longest first, while there is time.
fn finalists(
    args: &TuneArgs,
    tuner: &mut Tuner<'_>,
    (model, folder): (&Model, &Path),
    mut best: f64,
) -> Result<f64, Box<dyn std::error::Error>> {
    let records = Records::open(std::slice::from_ref(&args.out));
    let mut close: Vec<&Record> = records.iter().filter(|r| r.best.len() > 1 && r.best[1].ns < CLOSE * r.best[0].ns).collect();
    close.sort_by(|a, b| b.best[0].ns.total_cmp(&a.best[0].ns));
    for record in close.into_iter().take(TRIALS) {
        if Instant::now() >= tuner.end {
            break;
        }
        let Some(other) = exchanged(tuner, record)? else { continue };
        other.0.write(&args.out)?;
        if let Some(cubin) = &other.1 {
            other.0.write_cubin(&args.out, cubin)?;
        }
        match total(tuner, &model.build()?, folder) {
            Ok(ns) if ns < GAIN * best => best = ns,
            _ => drop(record.write(&args.out)?),
        }
    }
    Ok(best)
}

/// A record with its second first, and what its fastest schedule is then compiled to.
fn exchanged(tuner: &mut Tuner<'_>, record: &Record) -> Result<Option<(Record, Option<wpk_plan::Cubin>)>, String> {
    let Some((target, layout, problem)) = Key::parts(record.key()) else { return Ok(None) };
    let Some(arch) = Arch::named(&target) else { return Ok(None) };
    let mut other = record.clone();
    other.best.swap(0, 1);
    other.seal(&problem, layout, arch)?;
    if other.ptx == record.ptx {
        return Ok(Some((other, None)));
    }
    tuner.worker.begin(record.key(), false)?;
    let Some(schedule) = other.schedule() else { return Ok(None) };
    let (capability, image) = tuner.worker.cubin(schedule)?;
    Ok(Some((other, Some(wpk_plan::Cubin { capability, image: wpk_plan::Bytes(image) }))))
}
