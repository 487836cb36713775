//! `cargo wpk`: looks at models, checks them and times them.

mod assembled;
mod bench;
mod compile;
mod db;
mod doctor;
mod explain;
mod inspect;
mod keep;
mod landscape;
mod lock;
mod log;
mod measure;
mod npy;
mod output;
mod run;
mod search;
mod tune;
mod tune_cpu;
mod verify;
mod whole;
mod worker;

use clap::{Args, Parser, Subcommand};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use wpk_rt::Device;

#[derive(Parser)]
#[command(name = "cargo-wpk", bin_name = "cargo wpk", version, about = "Looks at, checks and times models for wpk")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints inputs, outputs, parameters, operations, operators and every unsupported node
    Inspect(ModelArgs),
    /// Prints the plan: every step, why it is as it is, and what was not fused
    Explain(explain::ExplainArgs),
    /// Runs the plan beside the float64 evaluator, step by step, and names the first step that is wrong by itself
    Verify(verify::VerifyArgs),
    /// Searches for the fastest schedules of a model on a GPU, or with `--device cpu` on this processor, and writes records; --check tells what has none
    Tune(tune::TuneArgs),
    /// Finds the nodes that must stay in single precision for a model to be accurate enough on a GPU
    Keep(keep::KeepArgs),
    /// Tells what this machine has that plans and tuning use
    Doctor(doctor::DoctorArgs),
    /// Lists and merges tuning records
    Db(db::DbArgs),
    /// Records the times of many schedules of single problems, or compares a record with the estimate
    Landscape(landscape::LandscapeArgs),
    /// Times single convolutions, searched and by libraries, as benchmarks of peers print them
    Convs(landscape::ConvsArgs),
    /// Times the plan
    Bench(bench::BenchArgs),
    /// Measures what it is asked to on its input, for `tune`
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
}

/// A model and the sizes it is compiled for.
#[derive(Args, Clone)]
struct ModelArgs {
    /// The ONNX file
    model: PathBuf,
    /// The value of a symbolic dimension, as NAME=N, or a range of values, as NAME=1..8
    #[arg(long = "dim", value_parser = dim)]
    dims: Vec<(String, RangeInclusive<usize>)>,
    /// The extents of an input, as NAME=1x3x224x224
    #[arg(long = "shape", value_parser = shape)]
    shapes: Vec<(String, Vec<usize>)>,
    /// A GPU architecture to make a plan for, as sm_80
    #[arg(long)]
    gpu: Option<String>,
    /// The arithmetic of the GPU plan: fp32, tf32, fp16 or bf16
    #[arg(long, default_value = "fp32", value_parser = precision)]
    precision: wpk_build::Precision,
    /// The arithmetic of the CPU plan: fp32, bf16, or fp16 for the weights of few rows
    #[arg(long, default_value = "fp32", value_parser = precision)]
    cpu_precision: wpk_build::Precision,
    /// Nodes that the GPU plan computes in single precision, by name, separated by commas; `*` stands for any text
    #[arg(long = "keep-fp32", value_delimiter = ',')]
    keep_fp32: Vec<String>,
    /// The number of the CUDA device to run on, or `cpu`, which runs without it too
    #[arg(long, value_parser = device)]
    device: Option<Device>,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

fn dim(text: &str) -> Result<(String, RangeInclusive<usize>), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=N or NAME=1..8")?;
    let number = |n: &str| n.parse::<usize>().map_err(|e| format!("{n:?}: {e}"));
    let (first, last) = value.split_once("..").unwrap_or((value, value));
    Ok((name.to_owned(), number(first)?..=number(last.trim_start_matches('='))?))
}

fn precision(text: &str) -> Result<wpk_build::Precision, String> {
    use wpk_build::Precision::{Bf16, Fp16, Fp32, Tf32};
    let known = [("fp32", Fp32), ("tf32", Tf32), ("fp16", Fp16), ("bf16", Bf16)];
    known.into_iter().find(|k| k.0 == text).map(|k| k.1).ok_or_else(|| "expected fp32, tf32, fp16 or bf16".to_owned())
}

fn device(text: &str) -> Result<Device, String> {
    if text == "cpu" {
        return Ok(Device::Cpu);
    }
    text.parse().map(Device::Cuda).map_err(|_| "expected the number of a CUDA device, or cpu".to_owned())
}

fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, list) = text.split_once('=').ok_or("expected NAME=AxBxC")?;
    let extents = list.split('x').map(|n| n.parse().map_err(|e| format!("{n:?}: {e}"))).collect::<Result<_, _>>()?;
    Ok((name.to_owned(), extents))
}

impl ModelArgs {
    /// The number of the CUDA device; ends the program where there is no architecture to compile for.
    fn cuda(&self) -> Option<usize> {
        let Some(Device::Cuda(n)) = self.device else { return None };
        if self.gpu.is_none() {
            let told = "--device needs the GPU's architecture, as --gpu sm_90a\n";
            clap::Error::raw(clap::error::ErrorKind::MissingRequiredArgument, told).exit();
        }
        Some(n)
    }

    fn model(&self) -> wpk_build::Model {
        let model = wpk_build::Model::new(&self.model).precision(self.precision).cpu_precision(self.cpu_precision);
        let model = self
            .dims
            .iter()
            .fold(model, |m, (name, n)| if n.start() == n.end() { m.dim(name, [*n.start()]) } else { m.range(name, n.clone()) });
        let model = self.keep_fp32.iter().fold(model, |m, pattern| m.keep_fp32(pattern));
        let model = self.gpu.iter().fold(model, |m, arch| m.gpu(arch));
        self.shapes.iter().fold(model, |m, (name, s)| m.shape(name, s))
    }
}

/// What a command ends with: success, or a message and exit code 1.
type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    // As `cargo wpk ...`, cargo passes its own subcommand's name first.
    let mut args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|a| a == "wpk") {
        args.remove(1);
    }
    // Who reads no further, as `head`, is no failure.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match info.payload().downcast_ref::<String>() {
        Some(text) if text.starts_with("failed printing to stdout") => std::process::exit(0),
        _ => told(info),
    }));
    let outcome = match Cli::parse_from(args).command {
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Tune(args) => tune::tune(&args),
        Command::Keep(args) => keep::keep(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Db(args) => db::db(&args),
        Command::Landscape(args) => landscape::landscape(&args),
        Command::Convs(args) => landscape::convs(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Worker(args) => worker::serve(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
