//! The plan as text.

use crate::{ModelArgs, Outcome};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use wpk_build::Compiled;
use wpk_build::records::{Key, Record, Timed};
use wpk_kernels::arch::Arch;

#[derive(Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Writes the PTX of every generated kernel into this folder
    #[arg(long, requires = "gpu")]
    ptx: Option<PathBuf>,
    /// Assembles every generated kernel with this `ptxas`, and prints registers, shared memory and spills by family
    #[arg(long, requires = "gpu")]
    ptxas: Option<PathBuf>,
}

pub fn explain(args: &ExplainArgs) -> Outcome {
    let compiled = args.model.model().build()?;
    if args.model.json {
        println!("{}", object(&compiled));
        return Ok(());
    }
    print!("{}", compiled.program);
    for (device, choices) in ["CPU", "GPU"].iter().zip(&compiled.choices) {
        for choice in choices {
            let mark = if choice.chosen { "chosen" } else { "considered" };
            println!("{device} cover {mark}: {}, estimated {:.3} ms", choice.name, choice.cost / 1e6);
        }
    }
    for (record, _) in used(&compiled) {
        println!(
            "record {} on {}, {} of {} ({})",
            record.problem,
            record.device,
            record.search.0,
            record.search.1,
            record.file().display()
        );
        for timed in &record.best {
            let schedule: Vec<String> = timed.schedule.iter().map(|(k, v)| format!("{k}={v}")).collect();
            println!("  {:9.2} us {:5.2}x  {} {}", timed.ns / 1e3, timed.ns / record.best[0].ns, timed.family, schedule.join(" "));
        }
    }
    for (arch, (problem, _, reason)) in &compiled.untuned {
        println!("no record on {}: {} {}: {reason}", arch.target, problem.family(), problem.describe());
    }
    for remark in &compiled.remarks {
        println!("note: {remark}");
    }
    for (arch, steps) in &compiled.refused {
        println!("no plan for {arch}:");
        steps.iter().for_each(|s| println!("  {s}"));
    }
    if let Some(ptxas) = &args.ptxas {
        compiled.program.gpus.iter().try_for_each(|gpu| crate::assembled::print(ptxas, gpu))?;
    }
    if let Some(folder) = &args.ptx {
        std::fs::create_dir_all(folder)?;
        for gpu in &compiled.program.gpus {
            for (i, module) in gpu.modules.iter().enumerate() {
                std::fs::write(folder.join(format!("{}-{i:03}-{}.ptx", gpu.arch, module.entry)), &module.text)?;
            }
        }
    }
    Ok(())
}

/// The records that the GPU plans use, each once, with how many steps do.
fn used(compiled: &Compiled) -> Vec<(&Record, usize)> {
    let mut found: Vec<(&Record, usize)> = vec![];
    for gpu in &compiled.program.gpus {
        let Some(arch) = Arch::named(&gpu.arch) else { continue };
        for step in gpu.plans.iter().flat_map(|p| p.body.steps()) {
            let key = Key::new(step.kernel.problem(), step.kernel.layout(), arch);
            let Some(record) = compiled.records.get(&key) else { continue };
            match found.iter_mut().find(|f| f.0.key() == record.key()) {
                Some(known) => known.1 += 1,
                None => found.push((record, 1)),
            }
        }
    }
    found
}

/// The plan as one JSON object: steps, covers, records with their candidates, and what has none.
fn object(compiled: &Compiled) -> Value {
    let plans = compiled.program.buckets.iter().map(|b| &b.1).chain(compiled.program.gpus.iter().flat_map(|g| &g.plans));
    let step = |s: &&wpk_plan::Step| json!({"problem": format!("{} {}", s.kernel.problem().family(), s.kernel.problem().describe()), "why": s.why, "origin": s.origin});
    let plans: Vec<Value> = plans
        .map(|p| json!({"target": p.target, "arena": p.arena, "steps": p.body.steps().iter().map(step).collect::<Vec<_>>()}))
        .collect();
    let covers: Vec<Value> = compiled.choices.iter().flatten().map(|c| json!({"name": c.name, "ns": c.cost, "chosen": c.chosen})).collect();
    let records: Vec<Value> = used(compiled)
        .iter()
        .map(|(r, steps)| json!({"problem": r.problem, "device": r.device, "file": r.file(), "steps": steps, "best": r.best.iter().map(Timed::to_json).collect::<Vec<_>>()}))
        .collect();
    let untuned: Vec<Value> = compiled
        .untuned
        .iter()
        .map(|(arch, (p, _, reason))| json!({"arch": arch.target, "problem": format!("{} {}", p.family(), p.describe()), "reason": reason}))
        .collect();
    json!({"plans": plans, "covers": covers, "records": records, "untuned": untuned, "remarks": compiled.remarks.iter().map(ToString::to_string).collect::<Vec<_>>()})
}
