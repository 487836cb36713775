//! The side of the process that measures.

use super::planted::Fault;
use super::simulated::Simulated;
use crate::Outcome;
use crate::lock::{Holder, hold};
use crate::measure::{Gpu, Measurer, Surroundings};
use clap::Args;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use wpk_build::records::{Key, Timed};
use wpk_kernels::arch::Arch;
use wpk_rt::measure::Bench;

#[derive(Args)]
pub struct WorkerArgs {
    /// The CUDA device
    #[arg(long, default_value_t = 0)]
    device: usize,
    /// No device: times are made of estimates; some candidates crash, hang or are wrong, one in so many
    #[arg(long)]
    simulate: Option<u64>,
    /// On the device, one candidate in so many crashes, hangs or writes where it must not
    #[arg(long, default_value_t = 0)]
    plant: u64,
}

fn say(answer: &Value) {
    let mut out = std::io::stdout().lock();
    // A reader that is gone ends the process at the next request.
    let _ = writeln!(out, "{answer}").and_then(|()| out.flush());
}

/// Lines of standard input. Where it ends, nobody hears an answer any more: the process ends at once, whatever it is at.
fn requests() -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().map_while(Result::ok).all(|line| send.send(line).is_ok());
        std::process::exit(0);
    });
    lines
}

/// Answers requests until there are no more.
pub fn serve(args: &WorkerArgs) -> Outcome {
    let bench = match args.simulate {
        Some(_) => None,
        None => match Bench::new(args.device) {
            Ok(bench) => Some(bench),
            Err(e) => {
                say(&json!({"error": e.to_string()}));
                return Err(e.into());
            }
        },
    };
    let mut current: Option<Box<dyn Measurer + '_>> = None;
    for line in requests() {
        let request: Value = serde_json::from_str(&line)?;
        let answer = answer(&request, bench.as_ref(), args, &mut current).unwrap_or_else(|e| json!({"error": e}));
        say(&answer);
    }
    Ok(())
}

fn answer<'a>(
    request: &Value,
    bench: Option<&'a Bench>,
    args: &WorkerArgs,
    current: &mut Option<Box<dyn Measurer + 'a>>,
) -> Result<Value, String> {
    let text = |key: &str| request[key].as_str().ok_or_else(|| format!("no {key:?} in a request"));
    match text("what")? {
        "device" => {
            let name = bench.map_or(Ok("Simulated GPU".to_owned()), Bench::name).map_err(|e| e.to_string())?;
            Ok(json!({"device": name}))
        }
        "problem" => {
            // The memory of the one before goes first.
            *current = None;
            let (target, layout, problem) = Key::parts(text("key")?).ok_or("a key that is none")?;
            let arch = Arch::named(&target).ok_or("an architecture that is none")?;
            let own = (&problem, layout, arch);
            let around = Surroundings { cold: request["cold"] == true, early: request["early"] == true };
            *current = Some(match (bench, args.simulate) {
                (Some(bench), _) => Box::new(Gpu::new(bench, own, around)?),
                (None, faults) => Box::new(Simulated::new(own, faults.unwrap_or(0))),
            });
            Ok(json!({"ready": true}))
        }
        "calls" => {
            let _alone = hold(args.device, Holder::Worker)?;
            let (calls, notes) = known(current)?.calls();
            Ok(json!({"calls": calls.iter().map(Timed::to_json).collect::<Vec<_>>(), "notes": notes}))
        }
        "time" => {
            let _alone = hold(args.device, Holder::Worker)?;
            let measurer = known(current)?;
            let candidates: Vec<Timed> = request["candidates"].as_array().into_iter().flatten().filter_map(Timed::from_json).collect();
            let rounds = request["rounds"].as_u64().unwrap_or(5) as usize;
            time(measurer.as_mut(), &candidates, rounds, (bench, args.plant));
            Ok(json!({"done": true}))
        }
        "cubin" => {
            let schedule = Timed::from_json(&request["schedule"]).ok_or("a schedule that is none")?;
            let image = known(current)?.cubin(&schedule)?;
            std::fs::write(text("to")?, image).map_err(|e| e.to_string())?;
            let capability = bench.map_or(Ok(0), Bench::capability).map_err(|e| e.to_string())?;
            Ok(json!({"capability": capability}))
        }
        "plan" => {
            *current = None;
            let _alone = hold(args.device, Holder::Worker)?;
            let ns = match bench {
                Some(_) => plan(text("program")?.as_ref(), text("weights")?.as_ref(), args.device)?,
                None => super::simulated::plan(text("program")?.as_ref())?,
            };
            Ok(json!({"ns": ns}))
        }
        other => Err(format!("a request {other:?} that is none")),
    }
}

/// Candidates that are compiled at once.
const CHUNK: usize = 32;

/// Checks and times candidates, while the next are compiled.
fn time(measurer: &mut (dyn Measurer + '_), candidates: &[Timed], rounds: usize, (bench, plant): (Option<&Bench>, u64)) {
    let compiler = measurer.compiler();
    std::thread::scope(|scope| {
        let start = |chunk: Option<&'_ [Timed]>| {
            let (chunk, compiler) = (chunk.map(<[Timed]>::to_vec), compiler.clone());
            chunk.map(|chunk| scope.spawn(move || compiler.compile(&chunk)))
        };
        let mut chunks = candidates.chunks(CHUNK);
        let mut compiling = start(chunks.next());
        for chunk in candidates.chunks(CHUNK) {
            let compiled = compiling.take().and_then(|c| c.join().ok()).unwrap_or_default();
            compiling = start(chunks.next());
            measurer.load(compiled);
            for (number, candidate) in chunk.iter().enumerate() {
                say(&json!({"begins": number}));
                let planted = bench.and_then(|bench| Some((bench, Fault::of(candidate, plant)?)));
                let outcome = match planted {
                    Some((bench, fault)) => fault.strike(Some((bench, compiler.arch))),
                    None => measurer.time(number, rounds),
                };
                tell(outcome, bench);
            }
        }
    });
}

fn tell(outcome: crate::measure::Outcome, bench: Option<&Bench>) {
    match outcome {
        Ok(ns) => say(&json!({"ns": ns})),
        Err(reason) => {
            say(&json!({"failed": reason}));
            // After some failures the process cannot use the device any more; a simulated one, after each.
            if bench.is_none_or(|b| b.room(16).is_err()) {
                std::process::exit(1);
            }
        }
    }
}

fn known<'b, 'a>(current: &'b mut Option<Box<dyn Measurer + 'a>>) -> Result<&'b mut Box<dyn Measurer + 'a>, String> {
    current.as_mut().ok_or_else(|| "no problem was begun".to_owned())
}

/// Replays of a whole plan that are timed together.
const REPLAYS: usize = 60;
/// How often they are timed until they are steady: a device that was idle is slow at first.
const STEADY: usize = 20;

fn plan(program: &Path, weights: &Path, device: usize) -> Result<f64, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|e| e.to_string());
    let options = wpk_rt::Options { device: wpk_rt::Device::Cuda(device), ..wpk_rt::Options::default() };
    let model = wpk_rt::Model::load(&read(program)?, wpk_rt::Weights::Owned(read(weights)?), options).map_err(|e| e.to_string())?;
    if let Some(reason) = model.refused_calls().first() {
        return Err(format!("a call that was measured is refused: {reason}"));
    }
    let median = || {
        let mut times = model.replays(0, REPLAYS).map_err(|e| e.to_string())?;
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().ok_or_else(|| "nothing was timed".to_owned())
    };
    let mut last = median()?;
    for _ in 0..STEADY {
        let now = median()?;
        if (now / last - 1.0).abs() < 0.005 {
            return Ok(now.min(last));
        }
        last = now;
    }
    Ok(last)
}
