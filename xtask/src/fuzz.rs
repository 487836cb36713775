//! Damaged models: each is compiled or refused with an error, in bounded time and memory, without a panic.

use crate::{Outcome, fetch, root};
use bytes::Bytes;
use prost::Message;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use wpk_build::{Model, onnx};

/// Time for one model.
const LIMIT: Duration = Duration::from_secs(2);
/// Kilobytes of address space for the whole process.
const MEMORY: usize = 1 << 20;

/// What the last panic said.
static PLACE: Mutex<String> = Mutex::new(String::new());

/// `fuzz [COUNT] [SEED]`: mutates models and compiles them in a process of limited memory.
pub fn fuzz(args: &[String]) -> Outcome {
    let number = |i: usize, default: u64| args.get(i).map_or(Ok(default), |a| a.parse().map_err(|e| format!("{a:?}: {e}")));
    if args.first().is_some_and(|a| a == "--worker") {
        return worker(number(1, 0)?, number(2, 0)?);
    }
    let (count, seed) = (number(0, 20_000)?, number(1, 1)?);
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let script = format!("ulimit -v {MEMORY}; exec \"$0\" fuzz --worker {count} {seed}");
    crate::run(Command::new("sh").arg("-c").arg(script).arg(exe))
}

fn worker(count: u64, seed: u64) -> Outcome {
    let bases = bases()?;
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    std::panic::set_hook(Box::new(|panic| *PLACE.lock().unwrap_or_else(|e| e.into_inner()) = panic.to_string()));
    let (mut compiled, mut refused, mut slowest) = (0, 0, Duration::ZERO);
    let mut failures = vec![];
    for i in 0..count {
        let (path, base) = &bases[random.below(bases.len())];
        let bytes = mutate(base, &mut random);
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| compiles(&bytes)));
        let time = start.elapsed();
        slowest = slowest.max(time);
        let failure = match outcome {
            Ok(true) => {
                compiled += 1;
                None
            }
            Ok(false) => {
                refused += 1;
                None
            }
            Err(_) => Some(PLACE.lock().unwrap_or_else(|e| e.into_inner()).clone()),
        };
        let failure = failure.or_else(|| (time > LIMIT).then(|| format!("took {time:?}")));
        if let Some(why) = failure {
            let kept = root().join(format!("target/fuzz-{seed}-{i}.onnx"));
            std::fs::write(&kept, &bytes).map_err(|e| e.to_string())?;
            failures.push(format!("#{i} from {}: {why} (kept as {})", path.display(), kept.display()));
        }
    }
    failures.iter().take(20).for_each(|f| println!("{f}"));
    println!("{count} models: {compiled} compiled, {refused} refused, {} panicked or were slow, slowest {slowest:?}", failures.len());
    if failures.is_empty() { Ok(()) } else { Err("damaged models must be refused in time".to_owned()) }
}

/// Small models of many operators, and a trained one.
fn bases() -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let data = fetch::onnx_cases()?;
    let mut paths = vec![root().join("examples/digits/models/digits.onnx")];
    for suite in ["node", "pytorch-converted", "simple"] {
        let cases = crate::case::cases(&data, suite)?;
        paths.extend(cases.into_iter().map(|c| c.model));
    }
    let mut bases = vec![];
    for path in paths {
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if compiles(&bytes) {
            bases.push((path, bytes));
        }
    }
    Ok(bases)
}

/// Whether a model is compiled rather than refused.
fn compiles(bytes: &[u8]) -> bool {
    let source = onnx::parse(Bytes::from(bytes.to_vec()));
    source.is_ok_and(|s| Model::new("fuzz.onnx").dim("batch", [1]).build_from(&s).is_ok())
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
    /// A number that programs get wrong.
    fn extreme(&mut self) -> i64 {
        [0, 1, -1, 2, -2, 255, 65_536, i64::from(i32::MAX), i64::from(i32::MIN), 1 << 40, i64::MAX, i64::MIN, 7, 1000][self.below(14)]
    }
}

fn mutate(base: &[u8], r: &mut Random) -> Vec<u8> {
    let mut bytes = base.to_vec();
    match r.below(4) {
        0 => {
            for _ in 0..=r.below(8) {
                let at = r.below(bytes.len());
                bytes[at] ^= 1 << r.below(8);
            }
        }
        1 => bytes.truncate(r.below(base.len())),
        2 => {
            let at = r.below(bytes.len());
            let value = [0, 1, 0x7f, 0x80, 0xff][r.below(5)];
            bytes[at] = value;
        }
        _ => {
            if let Ok(mut model) = onnx::proto::Model::decode(base) {
                (0..=r.below(3)).for_each(|_| restructure(&mut model, r));
                bytes = model.encode_to_vec();
            }
        }
    }
    bytes
}

/// Changes the meaning instead of the bytes: cycles, dangling names, extents, attributes.
fn restructure(model: &mut onnx::proto::Model, r: &mut Random) {
    let Some(graph) = model.graph.as_mut() else { return };
    let names: Vec<String> = graph.node.iter().flat_map(|n| n.input.iter().chain(&n.output)).cloned().collect();
    let n = graph.node.len().max(1);
    let node = graph.node.get_mut(r.below(n));
    match (r.below(8), node) {
        (0, Some(node)) if !node.input.is_empty() => {
            let i = r.below(node.input.len());
            node.input[i] = names[r.below(names.len())].clone();
        }
        (1, Some(node)) if !node.input.is_empty() => {
            let i = r.below(node.input.len());
            node.input.remove(i);
        }
        (2, Some(node)) if !node.attribute.is_empty() => {
            let i = r.below(node.attribute.len());
            let a = &mut node.attribute[i];
            a.i = r.extreme();
            if !a.ints.is_empty() {
                let j = r.below(a.ints.len());
                a.ints[j] = r.extreme();
            }
            a.f = [0.0, -1.0, f32::NAN, f32::INFINITY, 1e30][r.below(5)];
        }
        (3, Some(node)) if !node.attribute.is_empty() => {
            let i = r.below(node.attribute.len());
            node.attribute.remove(i);
        }
        (4, _) => {
            let dims =
                graph.input.iter_mut().filter_map(|i| i.r#type.as_mut()?.tensor_type.as_mut()?.shape.as_mut()).flat_map(|s| &mut s.dim);
            let mut dims: Vec<_> = dims.collect();
            let i = r.below(dims.len());
            if let Some(dim) = dims.get_mut(i) {
                dim.dim_param = None;
                dim.dim_value = Some(r.extreme());
            }
        }
        (5, _) if !graph.initializer.is_empty() => {
            let i = r.below(graph.initializer.len());
            let t = &mut graph.initializer[i];
            if t.dims.is_empty() {
                t.dims.push(r.extreme())
            } else {
                let j = r.below(t.dims.len());
                t.dims[j] = r.extreme()
            }
        }
        (6, Some(node)) => {
            node.op_type =
                ["Conv", "Reshape", "Gather", "Slice", "Concat", "MatMul", "Softmax", "Resize", "Pad", "Expand"][r.below(10)].to_owned()
        }
        (_, _) => {
            // A constant input with an extreme value, which shapes are computed from.
            let name = names.get(r.below(names.len())).cloned().unwrap_or_default();
            let data = (0..=r.below(4)).map(|_| r.extreme()).collect::<Vec<_>>();
            graph.initializer.push(onnx::proto::Tensor {
                name,
                data_type: 7,
                dims: vec![data.len() as i64],
                int64_data: data,
                ..Default::default()
            });
        }
    }
}
