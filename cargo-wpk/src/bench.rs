//! Timing a plan on this machine.

use crate::run::{inputs, load};
use crate::{ModelArgs, Outcome};
use clap::Args;
use std::time::{Duration, Instant};
use wpk_kernels::Tensor;

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
    let model = load(&compiled, args.model.device)?;
    let loaded = start.elapsed();
    let plan = &compiled.program.buckets[0].1;
    let bytes: Vec<Vec<u8>> = inputs(&args.model.model, &plan.inputs)?.iter().map(Tensor::to_bytes).collect();
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
    times.sort();
    let ms = |t: Duration| t.as_secs_f64() * 1e3;
    let at = |q: usize| ms(times[(times.len() - 1) * q / 100]);
    println!(
        "median {:.3} ms, p90 {:.3} ms, best {:.3} ms, {} runs (built in {:.0} ms, packed and loaded in {:.0} ms)",
        at(50),
        at(90),
        at(0),
        times.len(),
        ms(built),
        ms(loaded)
    );
    if args.model.device.is_some() {
        return gpu(args, &model);
    }
    if args.profile {
        profile(&model, &compiled, &slices, &mut targets)?;
    }
    Ok(())
}

/// Replays of the whole plan, copies excluded, and where they spend their time.
fn gpu(args: &BenchArgs, model: &wpk_rt::Model) -> Outcome {
    let Some(plan) = model.gpu_plan(0) else { return Err("no GPU plan runs".into()) };
    model.replays(0, 20)?;
    let mut times = model.replays(0, 200)?;
    times.sort_by(f64::total_cmp);
    let at = |q: usize| times[(times.len() - 1) * q / 100] / 1e6;
    let mut host = model.host_times(0, 200)?;
    host.sort_by(f64::total_cmp);
    println!(
        "replays: median {:.4} ms, p90 {:.4} ms, best {:.4} ms; the host takes {:.1} us to start one",
        at(50),
        at(90),
        at(0),
        host[host.len() / 2] / 1e3
    );
    if args.profile {
        let steps = plan.body.steps();
        let times = model.step_times(0, 30)?;
        let total: f64 = times.iter().sum();
        for (i, (step, ns)) in steps.iter().zip(&times).enumerate() {
            let problem = step.kernel.problem();
            let rate = problem.operations() as f64 / ns / 1e3;
            println!(
                "{:5.1} % {:8.2} us {rate:7.3} TFLOP/s  {i:3} {} {} [{}]  ; {}",
                ns / total * 100.0,
                ns / 1e3,
                problem.family(),
                problem.describe(),
                step.why,
                step.origin
            );
        }
        println!("sum of steps {:.4} ms, not accounted for in a replay {:.4} ms", total / 1e6, at(50) - total / 1e6);
    }
    Ok(())
}

fn profile(model: &wpk_rt::Model, compiled: &wpk_build::Compiled, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Outcome {
    let steps = compiled.program.buckets[0].1.body.steps();
    let mut best = vec![Duration::MAX; steps.len()];
    for _ in 0..20 {
        model.run_traced(0, inputs, outputs, &mut |t| best[t.step] = best[t.step].min(t.time))?;
    }
    let total: Duration = best.iter().sum();
    let mut order: Vec<usize> = (0..steps.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(best[i]));
    for i in order {
        let problem = steps[i].kernel.problem();
        let (us, rate) = (best[i].as_secs_f64() * 1e6, problem.operations() as f64 / best[i].as_secs_f64() / 1e9);
        println!(
            "{:5.1} % {us:9.1} us {rate:7.1} GFLOP/s  {i:3} {} {}  ; {}",
            best[i].as_secs_f64() / total.as_secs_f64() * 100.0,
            problem.family(),
            problem.describe(),
            steps[i].origin
        );
    }
    println!("sum of steps {:.3} ms", total.as_secs_f64() * 1e3);
    Ok(())
}
