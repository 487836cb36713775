//! One ONNX backend case: compiled, run on the CPU plan, compared.

use bytes::Bytes;
use prost::Message;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use wpk_build::graph::Literal;
use wpk_build::{Compiled, Diags, Model, onnx};
use wpk_kernels::Tensor;
use wpk_plan::DType;
use wpk_rt::{Device, Weights};

/// A model with inputs and expected results.
pub struct Case {
    pub name: String,
    pub model: PathBuf,
    /// Folders with `input_N.pb` and `output_N.pb`; empty for models whose inputs are made here.
    pub sets: Vec<PathBuf>,
    pub rtol: f64,
    pub atol: f64,
}

/// Inputs by name, and expected results.
pub type Data = (Vec<(String, Literal)>, Vec<Option<Literal>>);

/// How a case ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Every result agrees; `bound` where inputs had to be build-time constants.
    Passed {
        bound: bool,
    },
    /// An error at build time.
    Refused(String),
    Wrong(String),
    Panicked(String),
}

/// Where cases run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// By the CPU plan.
    Cpu,
    /// By the GPU plan, in the emulator.
    Emulator,
}

/// Cases whose expected values are not exact to their own tolerance, with the absolute one that holds for them: the inverse transform was
/// computed in single precision on inputs up to 99, and has 1.9e-7 where the result is zero.
const INEXACT: [(&str, f64); 2] = [("test_dft_inverse", 1e-6), ("test_dft_inverse_opset19", 1e-6)];

/// Cases that expect the reference's random numbers; every runtime draws others.
pub const RANDOM: &str = "test_bernoulli";

/// The cases of a folder.
pub fn cases(data: &Path, kind: &str) -> Result<Vec<Case>, String> {
    let folder = data.join(kind);
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?.flatten().map(|e| e.path()).collect();
    entries.sort();
    let stem = |p: &Path| p.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    if kind == "light" {
        let models = entries.into_iter().filter(|p| p.extension().is_some_and(|e| e == "onnx"));
        return Ok(models.map(|model| Case { name: stem(&model), model, sets: vec![], rtol: 1e-3, atol: 1e-7 }).collect());
    }
    let case = |dir: PathBuf| {
        let mut sets: Vec<PathBuf> =
            std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
        sets.sort();
        let limits = std::fs::read(dir.join("data.json")).ok().and_then(|b| serde_json::from_slice::<serde_json::Value>(&b).ok());
        let limit = |key: &str, default: f64| limits.as_ref().and_then(|l| l.get(key)?.as_f64()).unwrap_or(default);
        let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let inexact = INEXACT.iter().find(|c| c.0 == name).map(|c| c.1);
        let (rtol, atol) = (limit("rtol", 1e-3), inexact.unwrap_or_else(|| limit("atol", 1e-7)));
        Case { name, model: dir.join("model.onnx"), sets, rtol, atol }
    };
    Ok(entries.into_iter().filter(|p| p.join("model.onnx").is_file()).map(case).collect())
}

impl Case {
    /// Compiles, runs and compares.
    pub fn run(&self, place: On) -> Verdict {
        let verdict = catch_unwind(AssertUnwindSafe(|| self.judge(place)));
        verdict.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Verdict::Panicked(text.unwrap_or_default())
        })
    }

    fn judge(&self, place: On) -> Verdict {
        if self.name.starts_with(RANDOM) {
            return Verdict::Refused("expects the random numbers that the reference drew".to_owned());
        }
        let mut bound = false;
        let sets = if self.sets.is_empty() { vec![None] } else { self.sets.iter().map(Some).collect() };
        for set in sets {
            let (inputs, expected) = match self.read(set) {
                Ok(data) => data,
                Err(why) => return Verdict::Refused(why),
            };
            let (compiled, constants) = match self.compile_for(&inputs, place) {
                Ok(compiled) => compiled,
                Err(diags) => return Verdict::Refused(diags.to_string()),
            };
            bound |= !constants.is_empty();
            if let (On::Emulator, Some((_, steps))) = (place, compiled.refused.first()) {
                return Verdict::Refused(steps.join("; "));
            }
            match self.compare(&compiled, &inputs, &expected, place) {
                Ok(()) => {}
                Err(why) => return Verdict::Wrong(why),
            }
        }
        Verdict::Passed { bound }
    }

    /// Compiles for the inputs' extents. Where an input decides a shape, small integer inputs become constants.
    pub fn compile(&self, inputs: &[(String, Literal)]) -> Result<(Compiled, Vec<String>), Diags> {
        self.compile_for(inputs, On::Cpu)
    }

    fn compile_for(&self, inputs: &[(String, Literal)], place: On) -> Result<(Compiled, Vec<String>), Diags> {
        let model = Model::new(&self.model).records("/nonexistent");
        let model = if place == On::Emulator { model.gpu("sm_80") } else { model };
        let shaped = inputs.iter().fold(model, |m, (name, l)| m.shape(name, &l.shape));
        // Text is only supported as a constant.
        let text: Vec<&(String, Literal)> = inputs.iter().filter(|i| i.1.dtype == DType::Text).collect();
        let shaped = text.iter().fold(shaped, |m, (name, l)| m.bind(name, l.clone()));
        let text: Vec<String> = text.iter().map(|i| i.0.clone()).collect();
        let first = shaped.build();
        let Err(diags) = first else { return first.map(|c| (c, text)) };
        if !diags.to_string().contains("is computed at run time") {
            return Err(diags);
        }
        let integers = |l: &Literal| !l.dtype.is_float();
        let candidates: [fn(&Literal, bool) -> bool; 3] = [|l, int| int && l.shape.len() <= 1, |l, _| l.shape.len() <= 1, |_, _| true];
        let mut last = diags;
        for candidate in candidates {
            let chosen: Vec<&(String, Literal)> = inputs.iter().filter(|(_, l)| candidate(l, integers(l))).collect();
            let model = chosen.iter().fold(shaped.clone(), |m, (name, l)| m.bind(name, l.clone()));
            match model.build() {
                Ok(compiled) => return Ok((compiled, chosen.iter().map(|c| c.0.clone()).chain(text).collect())),
                Err(diags) => last = diags,
            }
        }
        Err(last)
    }

    /// Inputs by name, and expected results.
    pub fn read(&self, set: Option<&PathBuf>) -> Result<Data, String> {
        let source = onnx::load(&self.model).map_err(|d| d.to_string())?;
        let graph = source.model.graph.as_ref().ok_or("no graph")?;
        let weights: Vec<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        let names: Vec<&str> = graph.input.iter().map(|i| i.name.as_str()).filter(|n| !weights.contains(n)).collect();
        let mut inputs = vec![];
        let Some(set) = set else {
            for info in graph.input.iter().filter(|i| names.contains(&i.name.as_str())) {
                let shape: Vec<usize> = info
                    .r#type
                    .iter()
                    .filter_map(|t| t.tensor_type.as_ref()?.shape.as_ref())
                    .flat_map(|s| &s.dim)
                    .map(|d| d.dim_value.unwrap_or(1).max(0) as usize)
                    .collect();
                let n: usize = shape.iter().product();
                inputs.push((
                    info.name.clone(),
                    Literal::floats(DType::F32, &shape, &(0..n).map(|i| i as f64 / n as f64).collect::<Vec<_>>()),
                ));
            }
            let path = self.model.with_file_name(format!("{}_output_0.pb", self.name));
            return Ok((inputs, vec![Some(tensor(&source, &path)?)]));
        };
        for (i, name) in names.iter().enumerate() {
            let path = set.join(format!("input_{i}.pb"));
            if !path.is_file() {
                return Err(format!("input {name:?} is no tensor"));
            }
            inputs.push(((*name).to_owned(), tensor(&source, &path).map_err(|e| format!("input {name:?}: {e}"))?));
        }
        let output = |i: usize| tensor(&source, &set.join(format!("output_{i}.pb")));
        let expected = (0..graph.output.len()).map(|i| output(i).map(Some)).collect::<Result<_, _>>()?;
        Ok((inputs, expected))
    }

    fn compare(&self, compiled: &Compiled, inputs: &[(String, Literal)], expected: &[Option<Literal>], place: On) -> Result<(), String> {
        let plan = &compiled.program.buckets[0].1;
        let find = |name: &str| inputs.iter().find(|i| i.0 == name).map(|i| i.1.bytes.clone()).unwrap_or_default();
        let given: Vec<Bytes> = plan.inputs.iter().map(|p| find(&p.name)).collect();
        let results = match place {
            On::Emulator => wpk_tests::emulated::run(compiled, &given.iter().map(|b| b.to_vec()).collect::<Vec<_>>())?,
            On::Cpu => run_on_cpu(compiled, &given)?,
        };
        for ((port, (shape, bytes)), expected) in plan.results().iter().zip(&plan.existing(&results, &[])).zip(expected) {
            let Some(expected) = expected else { continue };
            if (port.dtype, shape) != (expected.dtype, &expected.shape) {
                return Err(format!("output {} is {}{:?} instead of {}{:?}", port.name, port.dtype, shape, expected.dtype, expected.shape));
            }
            self.close(&Tensor::from_bytes(port.dtype, bytes), &expected.tensor()).map_err(|e| format!("output {}: {e}", port.name))?;
        }
        Ok(())
    }

    fn close(&self, found: &Tensor, expected: &Tensor) -> Result<(), String> {
        for i in 0..expected.len() {
            let agree = match (&found.data, &expected.data) {
                (wpk_kernels::Data::Int(x), wpk_kernels::Data::Int(y)) => x[i] == y[i],
                _ => {
                    let (x, y) = (found.f(i), expected.f(i));
                    x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= self.atol + self.rtol * y.abs()
                }
            };
            if !agree {
                return Err(format!("element {i} is {} instead of {}", found.f(i), expected.f(i)));
            }
        }
        Ok(())
    }
}

/// The results of the CPU plan.
fn run_on_cpu(compiled: &Compiled, given: &[Bytes]) -> Result<Vec<Vec<u8>>, String> {
    let weights = Weights::Owned(compiled.blob.to_bytes());
    let model = wpk_rt::Model::new(compiled.program.clone(), weights, Device::Cpu).map_err(|e| e.to_string())?;
    let slices: Vec<&[u8]> = given.iter().map(AsRef::as_ref).collect();
    let mut results: Vec<Vec<u8>> = compiled.program.buckets[0].1.outputs.iter().map(|p| vec![0xa5; p.bytes()]).collect();
    let mut targets: Vec<&mut [u8]> = results.iter_mut().map(Vec::as_mut_slice).collect();
    model.run(0, &slices, &mut targets).map_err(|e| e.to_string())?;
    Ok(results)
}

fn tensor(source: &onnx::Source, path: &Path) -> Result<Literal, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let message =
        onnx::proto::Tensor::decode(Bytes::from(bytes)).map_err(|_| "is no tensor but a sequence, an optional or text".to_owned())?;
    onnx::literal(source, &message).map_err(|d| d.to_string())
}
