//! Timing a plan on this machine.

use crate::output::Output;
use crate::run::{bind, inputs};
use crate::{ModelArgs, Outcome};
use clap::Args;
use serde_json::json;
use std::time::{Duration, Instant};
use wpk_kernels::Tensor;
use wpk_rt::trace::Step;

#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Threads, the caller's included
    #[arg(long)]
    threads: Option<usize>,
    /// Seconds of measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Compares the results with float64, and so many runs with each other
    #[arg(long)]
    check: Option<usize>,
    /// Prints the time of every step, slowest first
    #[arg(long)]
    profile: bool,
}

pub fn bench(args: &BenchArgs) -> Outcome {
    if let Some(n) = args.threads {
        wpk_rt::set_threads(n);
    }
    let start = Instant::now();
    let compiled = args.model.model().build()?;
    let built = start.elapsed();
    let start = Instant::now();
    let weights = compiled.blob.to_bytes();
    let packed = start.elapsed();
    let start = Instant::now();
    let model = bind(&compiled, weights, args.model.cuda())?;
    let loaded = start.elapsed();
    let plan = &compiled.program.buckets[0].1;
    let given = inputs(&args.model.model, &plan.inputs)?;
    let bytes: Vec<Vec<u8>> = given.iter().map(Tensor::to_bytes).collect();
    let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    let mut results: Vec<Vec<u8>> = plan.outputs.iter().map(|p| vec![0; p.bytes()]).collect();
    let mut targets: Vec<&mut [u8]> = results.iter_mut().map(Vec::as_mut_slice).collect();
    let mut times = vec![];
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs_f64(args.seconds) || times.len() < 5 {
        let start = Instant::now();
        model.run(0, &slices, &mut targets)?;
        times.push(start.elapsed());
    }
    let first = times[0];
    times.sort();
    let ms = |t: Duration| t.as_secs_f64() * 1e3;
    let at = |q: usize| ms(times[(times.len() - 1) * q / 100]);
    let mut out = Output::new(args.model.json);
    let line = format!(
        "median {:.3} ms, p90 {:.3} ms, best {:.3} ms, first {:.3} ms, {} runs (built in {:.0} ms, packed in {:.0} ms, loaded in {:.0} ms)",
        at(50),
        at(90),
        at(0),
        ms(first),
        times.len(),
        ms(built),
        ms(packed),
        ms(loaded)
    );
    let value = json!({"median_ms": at(50), "p90_ms": at(90), "best_ms": at(0), "first_ms": ms(first), "runs": times.len(), "built_ms": ms(built), "packed_ms": ms(packed), "loaded_ms": ms(loaded)});
    out.say("whole", value, &line);
    for reason in model.refused_calls() {
        out.item("refused_calls", json!(reason), &format!("a kernel stands in for a call: {reason}"));
    }
    if args.model.cuda().is_some() {
        gpu(&mut out, &model)?;
    }
    if let Some(runs) = args.check {
        crate::verify::same_bits(&mut out, &model, &slices, &targets, runs)?;
        crate::verify::errors(&mut out, &args.model.model, &compiled, (&given, &results))?;
        targets = results.iter_mut().map(Vec::as_mut_slice).collect();
    }
    if args.profile {
        let profile = model.profile(0, &slices, &mut targets)?;
        let step = |s: &Step| json!({"ns": s.ns, "operations": s.operations, "bytes": s.bytes, "what": s.what, "origin": s.origin});
        let steps: Vec<_> = profile.steps.iter().map(step).collect();
        let value = json!({"target": profile.target, "ns": profile.whole, "steps": steps});
        out.say("profile", value, &profile.to_string());
    }
    Ok(())
}

/// Replays of the whole plan, copies excluded.
fn gpu(out: &mut Output, model: &wpk_rt::Model) -> Outcome {
    model.replays(0, 20)?;
    let mut times = model.replays(0, 200)?;
    times.sort_by(f64::total_cmp);
    let at = |q: usize| times[(times.len() - 1) * q / 100] / 1e6;
    let mut host = model.host_times(0, 200)?;
    host.sort_by(f64::total_cmp);
    let start = host[host.len() / 2] / 1e3;
    let line =
        format!("replays: median {:.4} ms, p90 {:.4} ms, best {:.4} ms; the host takes {start:.1} us to start one", at(50), at(90), at(0));
    out.say("replays", json!({"median_ms": at(50), "p90_ms": at(90), "best_ms": at(0), "host_us": start}), &line);
    Ok(())
}
