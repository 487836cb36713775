//! The compiler's front door: one model, its options, and what comes out.

use crate::covers::{self, Choice, Target};
use crate::custom;
use crate::diag::{Diag, Diags};
use crate::env;
use crate::graph::Graph;
use crate::import::{self, Options};
use crate::lower::{self, Blob, Modules, Weights};
use crate::onnx::{self, Source};
use crate::passes::{self, Remark};
use crate::ranges::{self, Dim};
use crate::records::{self, PlanFile, Records};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wpk_kernels::arch::{ARCHES, Arch};
use wpk_plan::problem::Problem;
use wpk_plan::{GpuPlans, Program, WeightLayout};

/// Bytes of weights and intermediates above which a model is refused.
const MEMORY_LIMIT: usize = 1 << 37;

/// Arithmetic of the GPU plan. The CPU plan computes in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Strict single precision.
    #[default]
    Fp32,
    /// Single precision with tensor-core products.
    Tf32,
    /// Half precision with single-precision sums.
    Fp16,
    /// bfloat16 with single-precision sums.
    Bf16,
}

/// Where the weights of a generated model live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightPlace {
    /// In the executable up to 16 MB, else in a file.
    #[default]
    Auto,
    /// In the executable.
    Embedded,
    /// In a file that is mapped at load: beside the executable, in `WPK_WEIGHTS_DIR`, or where the build wrote it.
    File,
}

/// A model to compile: a builder for `build.rs`.
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) path: PathBuf,
    pub(crate) name: Option<String>,
    pub(crate) dims: Vec<Dim>,
    pub(crate) options: Options,
    pub(crate) precision: Precision,
    pub(crate) cpu_precision: Precision,
    pub(crate) keep_fp32: Vec<String>,
    pub(crate) record_folders: Option<Vec<PathBuf>>,
    pub(crate) cover: Option<String>,
    pub(crate) libraries: bool,
    pub(crate) gpus: Vec<&'static Arch>,
    pub(crate) unknown: Vec<String>,
    pub(crate) weights: WeightPlace,
    pub(crate) out_dir: Option<PathBuf>,
}

/// A compiled model in memory.
pub struct Compiled {
    /// The plans.
    pub program: Program,
    /// The weights, not packed yet.
    pub blob: Blob,
    /// The imported and the optimized graph of each bucket.
    pub graphs: Vec<(Graph, Graph)>,
    /// Fusions that were refused.
    pub remarks: Vec<Remark>,
    /// Covers that were compared for the last bucket, on the CPU and for the last GPU.
    pub choices: [Vec<Choice>; 2],
    /// Why there is no plan for a GPU: the architecture, and every step without a kernel.
    pub refused: Vec<(&'static str, Vec<String>)>,
    /// Problems of the GPU plans without a tuning record that serves, with the reason.
    pub untuned: Vec<Untuned>,
    /// Dimensions that run only at the sizes of plans, though a range was asked for, with the node behind it.
    pub inflexible: Vec<String>,
    /// The names of plan files, by architecture and bucket.
    pub plan_names: Vec<String>,
    /// The tuning records there were.
    pub records: Records,
    /// Files that were read.
    pub files: Vec<PathBuf>,
}

/// A problem on an architecture, and why its record does not serve.
pub type Untuned = (&'static Arch, (Problem, WeightLayout, String));

impl Model {
    /// A model file. Relative paths start at the package's folder.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let (options, dims) = (Options::default(), vec![]);
        Self {
            path: path.as_ref().to_owned(),
            name: None,
            dims,
            options,
            precision: Precision::default(),
            cpu_precision: Precision::Fp32,
            keep_fp32: vec![],
            record_folders: None,
            cover: None,
            libraries: true,
            gpus: vec![],
            unknown: vec![],
            weights: WeightPlace::default(),
            out_dir: None,
        }
    }

    /// The name of the generated type; by default the file's.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// The sizes of a symbolic dimension; a plan is made for each combination.
    pub fn dim(mut self, name: &str, sizes: impl IntoIterator<Item = usize>) -> Self {
        self.dims.push(Dim::listed(name, sizes));
        self
    }

    /// A range of sizes of a symbolic dimension. Plans are made for its end and the powers of two within; a request runs in the plan of
    /// the next larger size, with the result that it would have by itself. The generated calls take [`Dynamic`](../wpk/struct.Dynamic.html)
    /// tensors then. Where a node's result would depend on what is not there, the dimension runs only at the plans' sizes, and the
    /// build names the node.
    pub fn range(mut self, name: &str, sizes: std::ops::RangeInclusive<usize>) -> Self {
        self.dims.push(Dim::range(name, sizes));
        self
    }

    /// The extents of an input whose model leaves them open.
    pub fn shape(mut self, input: &str, shape: &[usize]) -> Self {
        self.options.shapes.insert(input.to_owned(), shape.to_vec());
        self
    }

    /// Takes an input of a vision model as bytes with channels last, `[n, height, width, channels]`, as decoders give them; the first
    /// step brings values between 0 and 1, subtracts the mean of their channel and divides by its standard deviation.
    pub fn image(mut self, input: &str, mean: &[f64], deviation: &[f64]) -> Self {
        self.options.images.insert(input.to_owned(), (mean.to_vec(), deviation.to_vec()));
        self
    }

    /// Makes an input a constant.
    pub fn bind(mut self, input: &str, value: crate::graph::Literal) -> Self {
        self.options.bind.insert(input.to_owned(), value);
        self
    }

    /// Adds an operator of the application's own; the paths of its sources start where the model's does.
    pub fn custom(mut self, custom: crate::custom::Custom) -> Self {
        self.options.custom.push(custom);
        self
    }

    /// The arithmetic of the GPU plan.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The arithmetic of the CPU plan: [`Precision::Bf16`] multiplies by constant weights in bfloat16, with sums and everything else in
    /// `f32`, which takes about half the time on processors with AVX512_BF16 and half the memory everywhere; [`Precision::Fp16`] keeps the weights of products of up to
    /// 32 rows in binary16, which take as long as weights are read, and computes in `f32`; all others are `f32`.
    pub fn cpu_precision(mut self, precision: Precision) -> Self {
        self.cpu_precision = precision;
        self
    }

    /// Nodes that the GPU plan computes in single precision, by their ONNX names; `*` stands for any text.
    pub fn keep_fp32(mut self, pattern: &str) -> Self {
        self.keep_fp32.push(pattern.to_owned());
        self
    }

    /// Adds plans for GPUs of an architecture, as `sm_80`, and newer ones; one that ends in `a` serves that one alone.
    /// A model with a step that has no GPU kernel yet stays without: `cargo wpk explain` tells which.
    pub fn gpu(mut self, arch: &str) -> Self {
        match Arch::named(arch) {
            Some(row) if !self.gpus.contains(&row) => self.gpus.push(row),
            Some(_) => {}
            None => self.unknown.push(arch.to_owned()),
        }
        self
    }

    /// Where tuning records are, instead of the nearest `.wpk/tune` at or above the package, and the user's.
    pub fn records(mut self, folder: impl AsRef<Path>) -> Self {
        self.record_folders = Some(vec![folder.as_ref().to_owned()]);
        self
    }

    /// The cover of GPU plans, by its name in `cargo wpk explain`, instead of the one that a plan file or the estimate chooses.
    pub fn cover(mut self, name: &str) -> Self {
        self.cover = Some(name.to_owned());
        self
    }

    /// Whether GPU plans may call cuDNN and cuBLASLt where they were measured to be faster. Where a library is absent at run time, or
    /// of another version, generated kernels stand in for its calls.
    pub fn libraries(mut self, allowed: bool) -> Self {
        self.libraries = allowed;
        self
    }

    fn read_records(&self) -> Records {
        let places = || {
            let start = env::var("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
            let start = std::path::absolute(&start).unwrap_or(start);
            records::places(&start, records::user_folder(|name| std::env::var(name).ok()))
        };
        Records::open(&self.record_folders.clone().unwrap_or_else(places))
    }

    /// Where the weights live.
    pub fn weights(mut self, place: WeightPlace) -> Self {
        self.weights = place;
        self
    }

    /// Where generated files go; `OUT_DIR` by default.
    pub fn out_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.out_dir = Some(dir.as_ref().to_owned());
        self
    }

    /// The name of the generated type.
    pub(crate) fn type_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let stem = self.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            stem.split(|c: char| !c.is_alphanumeric()).map(capitalized).collect()
        })
    }

    /// Compiles to a program in memory.
    ///
    /// # Errors
    /// Everything wrong with the model, each naming its ONNX node.
    pub fn build(&self) -> Result<Compiled, Diags> {
        let name = self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let source = onnx::load(&self.path).map_err(Diags::from).map_err(|d| prefixed(d, &name))?;
        self.build_from(&source).map_err(|d| prefixed(d, &name))
    }

    /// Compiles a model that was read already.
    ///
    /// # Errors
    /// As for [`Model::build`].
    pub fn build_from(&self, source: &Source) -> Result<Compiled, Diags> {
        if let Some(Dim { name: dim, .. }) = self.dims.iter().find(|d| d.sizes.is_empty()) {
            return Err(Diag::new(format!("dimension {dim:?} has no sizes"))
                .help(format!("give at least one: `.dim({dim:?}, [1])`"))
                .into());
        }
        if let Some(arch) = self.unknown.first() {
            let known: Vec<&str> = ARCHES.iter().map(|a| a.target).collect();
            return Err(Diag::new(format!("there is no GPU architecture {arch:?}"))
                .help(format!("choose one of {}", known.join(", ")))
                .into());
        }
        let mut weights = Weights::default();
        let (mut buckets, mut graphs, mut commons, mut remarks, mut choices) = (vec![], vec![], vec![], vec![], vec![]);
        let (least, inflexible) = ranges::flexible(source, &self.options, &self.dims);
        for sizes in combinations(&self.dims) {
            let dims: BTreeMap<String, usize> = self.dims.iter().map(|d| d.name.clone()).zip(sizes.iter().copied()).collect();
            // A plan of the least size has no smaller requests.
            let bounded = (0u32..).zip(&self.dims).zip(least.iter().zip(&sizes));
            let bounded = bounded.filter_map(|((i, d), (least, &n))| Some((d.name.clone(), (i, least.filter(|&l| l < n)?)))).collect();
            let options = Options { dims, bounded, ..self.options.clone() };
            let graph = import::import(source, &options)?;
            let common = passes::common(&graph)?;
            let (optimized, considered) = covers::choose(&common)?;
            let plan = lower::lower(&optimized.graph, &mut weights, self.cpu_precision);
            buckets.push((sizes, graph.bounds.clone().of(plan)));
            graphs.push((graph, optimized.graph));
            commons.push(common);
            remarks = optimized.remarks;
            choices = considered;
        }
        let (mut gpus, mut refused, mut gpu_choices, mut untuned, mut plan_names) = (vec![], vec![], vec![], vec![], vec![]);
        let records = self.read_records();
        let cpus = records::schedules(&records, &buckets);
        for arch in &self.gpus {
            let mut modules = Modules::new(arch, &records);
            modules.libraries = self.libraries;
            modules.custom = custom::calls(commons.iter().map(|c| &c.graph)).into_iter().cloned().collect();
            let mut plans = vec![];
            for ((common, (sizes, _)), (imported, _)) in commons.iter().zip(&buckets).zip(&graphs) {
                let graph = format!("{}\n{:?}\n{}", arch.target, self.keep_fp32, common.graph);
                let name = records::plan_name(&self.type_name(), &graph, &format!("{:?}", self.precision).to_lowercase(), sizes);
                let measured = PlanFile::find(&records.folders, &name).map(|p| p.cover);
                plan_names.push(name);
                let cover = self.cover.clone().or(measured);
                let target = Target { precision: self.precision, keep_fp32: &self.keep_fp32, cover: cover.as_deref() };
                match covers::choose_gpu(common, &mut weights, &mut modules, target)? {
                    Ok((plan, considered)) => {
                        plans.push(imported.bounds.clone().of(plan));
                        gpu_choices = considered;
                    }
                    Err(steps) => {
                        refused.push((arch.target, steps));
                        break;
                    }
                }
            }
            if plans.len() == graphs.len() {
                let used = |p: &Problem| plans.iter().any(|plan| plan.body.steps().iter().any(|s| s.kernel.problem() == p));
                untuned.extend(modules.missing.iter().filter(|m| used(&m.0)).map(|m| (*arch, m.clone())));
                let modules = modules.used(&mut plans);
                gpus.push(GpuPlans { arch: arch.target.to_owned(), plans, modules });
            }
        }
        let blob = weights.into_blob();
        let dims = self.dims.iter().zip(least).map(|(d, least)| wpk_plan::Dim { name: d.name.clone(), least }).collect();
        let program = Program { name: self.type_name(), dims, buckets, cpus, gpus, sections: blob.sections.clone() };
        let memory = program.buckets.iter().map(|b| b.1.arena).max().unwrap_or(0).saturating_add(blob.len());
        if memory > MEMORY_LIMIT {
            return Err(Diag::new(format!("the plan takes {} GB", memory >> 30))
                .help("the model's extents are too large, or a dimension has a wrong value")
                .into());
        }
        if let Some(fault) = program.verify().first() {
            return Err(Diag::new(format!("the plan is not valid: {fault}"))
                .help("this is a bug in wpk: please report it with the model")
                .into());
        }
        let mut files = source.files.borrow().clone();
        files.extend(custom::calls(graphs.iter().map(|g| &g.1)).into_iter().flat_map(custom::Call::files).cloned());
        Ok(Compiled {
            program,
            blob,
            graphs,
            remarks,
            choices: [choices, gpu_choices],
            refused,
            untuned,
            inflexible,
            plan_names,
            records,
            files,
        })
    }
}

pub(crate) fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|c| c.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Names the file in the first line of every message.
fn prefixed(mut diags: Diags, file: &str) -> Diags {
    for diag in &mut diags.0 {
        diag.message = format!("{file}: {}", diag.message);
    }
    diags
}

/// Every combination of sizes, the last dimension fastest.
fn combinations(dims: &[Dim]) -> Vec<Vec<usize>> {
    dims.iter().fold(vec![vec![]], |all, dim| {
        all.iter().flat_map(|c| dim.sizes.iter().map(|&s| [c.as_slice(), &[s]].concat()).collect::<Vec<_>>()).collect()
    })
}
