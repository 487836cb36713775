//! `bench-cpu DIR THREADS [MODEL ...]`: one line of JSON per model and peer, medians of alternating rounds.
//!
//! Models and inputs are those of `export.py`: `NAME.onnx` and `NAME.<input>.npy`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tract_onnx::prelude::{Framework, InferenceModelExt, IntoTValue, Tensor as TractTensor, TypedSimplePlan};
use wpk_kernels::Tensor;

type Error = Box<dyn std::error::Error>;
type Runner = Box<dyn FnMut() -> Result<(), Error>>;

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().collect();
    let (dir, threads) = (PathBuf::from(&args[1]), args[2].parse::<usize>()?);
    wpk_rt::set_threads(threads);
    if threads > 1 {
        tract_linalg::multithread::set_default_executor(tract_linalg::multithread::Executor::multithread(threads));
    }
    let names: Vec<&str> = if args.len() > 3 { args[3..].iter().map(String::as_str).collect() } else { vec!["resnet18", "resnet50", "mobilenet_v2", "vit_b_16", "minilm6", "bert_base"] };
    for name in names {
        let path = dir.join(format!("{name}.onnx"));
        let (single, half) = (wpk_build::Precision::Fp32, wpk_build::Precision::Bf16);
        let mut runners: Vec<(&str, &str, Runner)> = vec![
            ("wpk", "fp32", wpk(&path, single)?),
            ("wpk", "bf16", wpk(&path, half)?),
            ("tract", "fp32", tract(&path)?),
            ("rten", "fp32", rten(&path, threads)?),
        ];
        let mut times: Vec<Vec<Duration>> = vec![vec![]; runners.len()];
        for _ in 0..3 {
            for (i, (_, _, run)) in runners.iter_mut().enumerate() {
                run()?;
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(1000) {
                    let one = Instant::now();
                    run()?;
                    times[i].push(one.elapsed());
                }
            }
        }
        for ((peer, precision, _), mut times) in runners.iter().zip(times) {
            times.sort();
            let median = times[times.len() / 2].as_secs_f64() * 1e3;
            println!("{{\"suite\": \"cpu-models\", \"name\": \"{name} {precision} b1 t{threads}\", \"peer\": \"{peer}\", \"ms\": {median:.3}, \"note\": \"{} runs\"}}", times.len());
        }
    }
    Ok(())
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
    Ok(Box::new(move || {
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let mut targets: Vec<&mut [u8]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        Ok(model.run(0, &slices, &mut targets)?)
    }))
}

fn names(path: &Path) -> Result<Vec<(String, bool)>, Error> {
    let source = wpk_build::onnx::load(path)?;
    let graph = source.model.graph.ok_or("no graph")?;
    let weights: Vec<String> = graph.initializer.iter().map(|t| t.name.clone()).collect();
    let kind = |i: &wpk_build::onnx::proto::ValueInfo| i.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).is_some_and(|t| t.elem_type == 1);
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
    Ok(Box::new(move || {
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
    Ok(Box::new(move || {
        let given = inputs.iter().map(|(id, v)| (*id, v.as_view().into())).collect();
        model.run(given, &outputs, Some(rten::RunOptions::default().with_thread_pool(Some(pool.clone()))))?;
        Ok(())
    }))
}
