//! `bench-cpu DIR THREADS [MODEL ...]`: one line of JSON per model and peer, medians of alternating rounds.
//!
//! Models and inputs are those of `export.py`: `NAME.onnx`, or `NAME_bBATCH.onnx`, and `NAME.<input>.npy`. ONNX Runtime takes its turns in a process of
//! its own, `ort.py` by the interpreter that `PYTHON` names. Every peer has twelve rounds of a quarter of a second, so that all meet what the host does with the
//! cores meanwhile alike; of models whose rounds take longer fewer, three at least.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tract_onnx::prelude::{Framework, InferenceModelExt, IntoTValue, Tensor as TractTensor, TypedSimplePlan};
use wpk_kernels::Tensor;

type Error = Box<dyn std::error::Error>;
/// Runs once; how long that took.
type Runner = Box<dyn FnMut() -> Result<Duration, Error>>;

const MODELS: [&str; 6] = ["resnet18", "resnet50", "mobilenet_v2", "vit_b_16", "minilm6", "bert_base"];
/// Rounds at least and at most, what each takes at least, and what a peer's take in all, about.
const ROUNDS: [usize; 2] = [3, 12];
const ROUND: Duration = Duration::from_millis(250);
const ALL: Duration = Duration::from_secs(3);
/// What names of quantized models end with (`tests/models/quantized.py` makes them), and the type of their activations.
const QUANTIZED: [(&str, &str); 2] = [("_QInt8", "int8"), ("_QUInt8", "uint8")];

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().collect();
    let (dir, threads) = (PathBuf::from(&args[1]), args[2].parse::<usize>()?);
    wpk_rt::set_threads(threads);
    if threads > 1 {
        tract_linalg::multithread::set_default_executor(tract_linalg::multithread::Executor::multithread(threads));
    }
    let names: Vec<&str> = if args.len() > 3 { args[3..].iter().map(String::as_str).collect() } else { MODELS.to_vec() };
    for name in names {
        let path = dir.join(format!("{name}.onnx"));
        let (single, half) = (wpk_build::Precision::Fp32, wpk_build::Precision::Bf16);
        let quantized = QUANTIZED.iter().find_map(|(suffix, precision)| Some((name.strip_suffix(suffix)?, *precision)));
        let (name, stored) = quantized.unwrap_or((name, "fp32"));
        let mut runners: Vec<(&str, &str, Result<Runner, Error>)> = vec![
            ("onnxruntime", stored, onnxruntime(&path, threads)),
            ("wpk", stored, wpk(&path, single)),
            ("tract", stored, tract(&path)),
            ("rten", stored, rten(&path, threads)),
        ];
        if quantized.is_none() {
            runners.insert(2, ("wpk", "bf16", wpk(&path, half)));
        }
        let mut ready = vec![];
        for (peer, precision, runner) in runners {
            match runner.and_then(|mut run| run().map(|_| run)) {
                Ok(run) => ready.push((peer, precision, run, vec![])),
                Err(e) => line(name, precision, threads, peer, "null", &e.to_string().replace(['"', '\\', '\n'], " ")),
            }
        }
        let (begin, all) = (Instant::now(), ALL * ready.len() as u32);
        for round in 0..ROUNDS[1] {
            if round >= ROUNDS[0] && begin.elapsed() > all {
                break;
            }
            for (_, _, run, times) in &mut ready {
                run()?;
                let start = Instant::now();
                while start.elapsed() < ROUND {
                    times.push(run()?);
                }
            }
        }
        for (peer, precision, _, mut times) in ready {
            times.sort();
            let ms = |d: Duration| format!("{:.3}", d.as_secs_f64() * 1e3);
            line(name, precision, threads, peer, &ms(times[times.len() / 2]), &format!("{} runs, least {}", times.len(), ms(times[0])));
        }
        if threads > 1 {
            let (ms, note) = (round_trip().as_secs_f64() * 1e3, "a cache line to another core and back");
            println!(
                "{{\"suite\": \"cpu-cores\", \"name\": \"behind {name}\", \"peer\": \"round trip\", \"ms\": {ms:.6}, \"note\": \"{note}\"}}"
            );
        }
    }
    Ok(())
}

/// How long two cores take to tell each other something: several times as long where they share no third cache, as virtual ones may from one
/// minute to the next.
fn round_trip() -> Duration {
    const TURNS: usize = 100_000;
    let turn = AtomicUsize::new(0);
    let play = |own: usize| {
        for round in 0..TURNS {
            while turn.load(Ordering::Acquire) != 2 * round + own {
                std::hint::spin_loop();
            }
            turn.store(2 * round + own + 1, Ordering::Release);
        }
    };
    std::thread::scope(|s| {
        s.spawn(|| play(1));
        let start = Instant::now();
        play(0);
        start.elapsed() / TURNS as u32
    })
}

fn line(name: &str, precision: &str, threads: usize, peer: &str, ms: &str, note: &str) {
    let (name, batch) = name.rsplit_once("_b").filter(|n| n.1.parse::<usize>().is_ok()).unwrap_or((name, "1"));
    println!(
        "{{\"suite\": \"cpu-models\", \"name\": \"{name} {precision} b{batch} t{threads}\", \"peer\": \"{peer}\", \"ms\": {ms}, \"note\": \"{note}\"}}"
    );
}

fn timed(mut run: impl FnMut() -> Result<(), Error> + 'static) -> Runner {
    Box::new(move || {
        let start = Instant::now();
        run()?;
        Ok(start.elapsed())
    })
}

fn onnxruntime(path: &Path, threads: usize) -> Result<Runner, Error> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/ort.py");
    let mut child =
        Command::new(python).arg(script).arg(path).arg(threads.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut to, mut from) = (child.stdin.take().ok_or("no input")?, BufReader::new(child.stdout.take().ok_or("no output")?));
    Ok(Box::new(move || {
        // The child ends with its input.
        writeln!(to)?;
        let mut answer = String::new();
        from.read_line(&mut answer)?;
        Ok(Duration::from_secs_f64(answer.trim().parse().map_err(|_| "onnxruntime has ended")?))
    }))
}

fn input(model: &Path, name: &str) -> Result<(Vec<u8>, Vec<usize>), Error> {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let bytes = std::fs::read(model.with_file_name(format!("{stem}.{name}.npy")))?;
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8_lossy(&bytes[10..header]).into_owned();
    let list = text.split("'shape': (").nth(1).and_then(|s| s.split(')').next()).unwrap_or_default();
    Ok((bytes[header..].to_vec(), list.split(',').filter_map(|n| n.trim().parse().ok()).collect()))
}

fn wpk(path: &Path, precision: wpk_build::Precision) -> Result<Runner, Error> {
    let compiled = wpk_build::Model::new(path).cpu_precision(precision).build()?;
    let model = wpk_rt::Model::new(compiled.program.clone(), wpk_rt::Weights::Owned(compiled.blob.to_bytes()), wpk_rt::Device::Cpu)?;
    let plan = &compiled.program.buckets[0].1;
    let inputs = plan.inputs.iter().map(|p| Ok(input(path, &p.name)?.0)).collect::<Result<Vec<_>, Error>>()?;
    let mut outputs: Vec<Vec<u8>> = plan.outputs.iter().map(|p| vec![0; p.bytes()]).collect();
    Ok(timed(move || {
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let mut targets: Vec<&mut [u8]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        Ok(model.run(0, &slices, &mut targets)?)
    }))
}

fn names(path: &Path) -> Result<Vec<(String, bool)>, Error> {
    let source = wpk_build::onnx::load(path)?;
    let graph = source.model.graph.ok_or("no graph")?;
    let weights: Vec<String> = graph.initializer.iter().map(|t| t.name.clone()).collect();
    let kind =
        |i: &wpk_build::onnx::proto::ValueInfo| i.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).is_some_and(|t| t.elem_type == 1);
    Ok(graph.input.iter().filter(|i| !weights.contains(&i.name)).map(|i| (i.name.clone(), kind(i))).collect())
}

fn tract(path: &Path) -> Result<Runner, Error> {
    let model = tract_onnx::onnx().model_for_path(path)?.into_optimized()?;
    let plan = TypedSimplePlan::new(model)?;
    let mut inputs = vec![];
    for (name, float) in names(path)? {
        let (bytes, shape) = input(path, &name)?;
        let tensor = Tensor::from_bytes(if float { wpk_plan::DType::F32 } else { wpk_plan::DType::I64 }, &bytes);
        inputs.push(if float {
            TractTensor::from_shape(&shape, &(0..tensor.len()).map(|i| tensor.f(i) as f32).collect::<Vec<_>>())?
        } else {
            TractTensor::from_shape(&shape, &(0..tensor.len()).map(|i| tensor.i(i)).collect::<Vec<_>>())?
        });
    }
    Ok(timed(move || {
        plan.run(inputs.iter().map(|t| t.clone().into_tvalue()).collect())?;
        Ok(())
    }))
}

fn rten(path: &Path, threads: usize) -> Result<Runner, Error> {
    let model = rten::Model::load_file(path)?;
    let mut inputs: Vec<(rten::NodeId, rten::Value)> = vec![];
    for (name, float) in names(path)? {
        let (bytes, shape) = input(path, &name)?;
        let tensor = Tensor::from_bytes(if float { wpk_plan::DType::F32 } else { wpk_plan::DType::I64 }, &bytes);
        let value = if float {
            rten_tensor::Tensor::from_data(&shape, (0..tensor.len()).map(|i| tensor.f(i) as f32).collect::<Vec<_>>()).into()
        } else {
            rten_tensor::Tensor::from_data(&shape, (0..tensor.len()).map(|i| tensor.i(i) as i32).collect::<Vec<_>>()).into()
        };
        inputs.push((model.node_id(&name)?, value));
    }
    let outputs = model.output_ids().to_vec();
    let pool = std::sync::Arc::new(rten::ThreadPool::with_num_threads(threads));
    Ok(timed(move || {
        let given = inputs.iter().map(|(id, v)| (*id, v.as_view().into())).collect();
        model.run(given, &outputs, Some(rten::RunOptions::default().with_thread_pool(Some(pool.clone()))))?;
        Ok(())
    }))
}
