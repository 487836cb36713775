//! Operators of the user's own: a Rust function tells their results, C source computes them on the CPU, CUDA C++ or PTX on a GPU.
//!
//! Every node is specialized: its source is compiled once for each set of definitions that the function makes of its extents and
//! attributes. `WPK_NAME` is the name that the source must give its function.
//!
//! ```c
//! void WPK_NAME(const void *const *inputs, void *const *outputs)                     // C: one thread, dense operands in ONNX's order
//! extern "C" __global__ void WPK_NAME(const float *x, ..., float *y, ...)            // CUDA C++: inputs, then outputs
//! ```

use crate::graph::{Graph, Op};
use crate::onnx::Attributes;
use crate::{Diag, Diags, env, hash, records};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use wpk_kernels::arch::Arch;
use wpk_plan::{DType, Module};

/// A node that a model has of a custom operator.
pub struct Node<'a> {
    /// Its attributes.
    pub attributes: Attributes<'a>,
    /// Element types and extents of its inputs, in order; all must be given.
    pub inputs: Vec<(DType, Vec<usize>)>,
}

impl Node<'_> {
    /// Element type and extents of an input.
    ///
    /// # Errors
    /// Where there is none.
    pub fn input(&self, i: usize) -> Result<(DType, &[usize]), String> {
        self.inputs.get(i).map(|(t, s)| (*t, s.as_slice())).ok_or_else(|| format!("input {i} is missing"))
    }
}

/// What a node computes: its results, and what its sources are specialized for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signature {
    results: Vec<(DType, Vec<usize>)>,
    defines: Vec<(String, String)>,
    launch: Option<(u32, u32)>,
}

impl Signature {
    /// Element types and extents of the results.
    pub fn new(results: impl IntoIterator<Item = (DType, Vec<usize>)>) -> Self {
        Self { results: results.into_iter().collect(), ..Self::default() }
    }

    /// A macro that sources see: an extent, an attribute.
    pub fn define(mut self, name: &str, value: impl Display) -> Self {
        self.defines.push((name.to_owned(), value.to_string()));
        self
    }

    /// Blocks, and threads of each, of the launch on a GPU.
    pub fn launch(mut self, blocks: u32, threads: u32) -> Self {
        self.launch = Some((blocks, threads));
        self
    }
}

type Infer = Arc<dyn Fn(&Node<'_>) -> Result<Signature, String> + Send + Sync>;

/// A custom operator.
#[derive(Clone)]
pub struct Custom {
    name: String,
    infer: Infer,
    source: Option<PathBuf>,
    gpu: Option<GpuSource>,
}

impl std::fmt::Debug for Custom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Custom").field("name", &self.name).field("source", &self.source).field("gpu", &self.gpu).finish_non_exhaustive()
    }
}

/// What a GPU's kernel is made of.
#[derive(Debug, Clone, PartialEq)]
enum GpuSource {
    Cuda(PathBuf),
    Ptx(PathBuf),
}

impl Custom {
    /// The operator of a domain and type; `infer` tells of each node what it results in, or what is wrong with it.
    pub fn new(domain: &str, op: &str, infer: impl Fn(&Node<'_>) -> Result<Signature, String> + Send + Sync + 'static) -> Self {
        Self { name: format!("{domain}::{op}"), infer: Arc::new(infer), source: None, gpu: None }
    }

    /// C source for the CPU, compiled by the build script's C compiler.
    pub fn c(mut self, path: impl AsRef<Path>) -> Self {
        self.source = Some(path.as_ref().to_owned());
        self
    }

    /// CUDA C++ for GPUs, compiled to PTX by `nvcc` (`NVCC`, else in the path), which is kept in `.wpk/custom` or the user's cache: a
    /// machine without `nvcc` takes what is there.
    pub fn cuda(mut self, path: impl AsRef<Path>) -> Self {
        self.gpu = Some(GpuSource::Cuda(path.as_ref().to_owned()));
        self
    }

    /// PTX for GPUs: a file with one entry.
    pub fn ptx(mut self, path: impl AsRef<Path>) -> Self {
        self.gpu = Some(GpuSource::Ptx(path.as_ref().to_owned()));
        self
    }

    /// The operator's name, as `domain::Type`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A node as an operation of the graph; paths start at a folder.
    pub(crate) fn call(&self, node: &Node<'_>, base: &Path) -> Result<Call, String> {
        let signature = (self.infer)(node)?;
        if signature.results.is_empty() {
            return Err("its signature has no results".to_owned());
        }
        let read = |path: &Path| {
            let path = base.join(path);
            std::fs::read_to_string(&path).map(|text| (path.clone(), text)).map_err(|e| format!("{}: {e}", path.display()))
        };
        let c = self.source.as_deref().map(read).transpose()?;
        let gpu = match &self.gpu {
            Some(GpuSource::Cuda(path)) => Some((read(path)?, true)),
            Some(GpuSource::Ptx(path)) => Some((read(path)?, false)),
            None => None,
        };
        let texts = (c.as_ref().map(|c| &c.1), gpu.as_ref().map(|g| &g.0.1));
        let symbol =
            format!("wpk_custom_{}", &hash::hex(format!("{} {:?} {signature:?} {texts:?}", self.name, node.inputs).as_bytes())[..16]);
        Ok(Call { name: self.name.clone(), symbol, inputs: node.inputs.clone(), signature, c, gpu })
    }
}

/// A custom operator's node: one function, specialized for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The operator.
    pub name: String,
    /// The function's symbol.
    pub symbol: String,
    /// Element types and extents of what it reads.
    pub inputs: Vec<(DType, Vec<usize>)>,
    signature: Signature,
    /// Path and text of the C source.
    c: Option<(PathBuf, String)>,
    /// Path and text of the GPU's source, and whether it is CUDA C++.
    gpu: Option<((PathBuf, String), bool)>,
}

impl Call {
    /// Element types and extents of the results.
    pub fn results(&self) -> &[(DType, Vec<usize>)] {
        &self.signature.results
    }

    /// The files it was read from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.c.iter().map(|c| &c.0).chain(self.gpu.iter().map(|g| &g.0.0))
    }

    /// What the CPU's function is compiled from, with its macros.
    pub(crate) fn c(&self) -> Option<(&Path, Vec<(&str, &str)>)> {
        let name = std::iter::once(("WPK_NAME", self.symbol.as_str()));
        let defines = name.chain(self.signature.defines.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        self.c.as_ref().map(|c| (c.0.as_path(), defines.collect()))
    }

    /// The kernel for an architecture.
    pub(crate) fn module(&self, arch: &Arch, folders: &[PathBuf]) -> Result<Module, String> {
        let ((path, text), cuda) =
            self.gpu.as_ref().ok_or_else(|| format!("{} has no source for GPUs: give it with `.cuda` or `.ptx`", self.name))?;
        let (blocks, threads) = self.signature.launch.ok_or_else(|| format!("{} has no launch: give it with `.launch`", self.name))?;
        let text = if *cuda { self.compiled(path, arch, folders)? } else { text.clone() };
        let entry = text
            .split(".entry")
            .nth(1)
            .map(|rest| rest.trim_start().split(|c: char| c == '(' || c.is_whitespace()).next().unwrap_or_default());
        let entry = entry.filter(|e| !e.is_empty()).ok_or_else(|| format!("{}: the PTX has no entry", path.display()))?.to_owned();
        Ok(Module { entry, text, threads, blocks, shared: 0, maps: vec![], parts: None, overlaps: false, cubins: vec![], call: None })
    }

    /// PTX of CUDA C++: kept beside the tuning records, in the user's cache, or compiled now.
    fn compiled(&self, path: &Path, arch: &Arch, folders: &[PathBuf]) -> Result<String, String> {
        let file = format!("{}.{}.ptx", self.symbol, arch.target);
        let user = records::user_folder(env::ambient).map(|f| f.with_file_name("custom"));
        let kept = folders.iter().map(|f| f.with_file_name("custom")).chain(user.clone());
        if let Some(text) = kept.into_iter().find_map(|f| std::fs::read_to_string(f.join(&file)).ok()) {
            return Ok(text);
        }
        let nvcc = env::var("NVCC").unwrap_or_else(|| "nvcc".to_owned());
        let to = std::env::temp_dir().join(format!("wpk-{}-{file}", std::process::id()));
        let mut command = Command::new(&nvcc);
        command.args(["-ptx", "-O3", &format!("-arch={}", arch.target.replace("sm_", "compute_")), &format!("-DWPK_NAME={}", self.symbol)]);
        command.args(self.signature.defines.iter().map(|(n, v)| format!("-D{n}={v}"))).arg(path).arg("-o").arg(&to);
        let output = command.output().map_err(|e| {
            format!(
                "{}: {nvcc}: {e}; {file} is in none of the folders `.wpk/custom` either: set NVCC, or bring it from a machine with nvcc",
                self.name
            )
        })?;
        if !output.status.success() {
            return Err(format!("{}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim()));
        }
        let text = std::fs::read_to_string(&to).map_err(|e| format!("{}: {e}", to.display()))?;
        let text = lowered(&text, arch, &nvcc, &to).unwrap_or(text);
        let _ = std::fs::remove_file(&to);
        if let Some(folder) = user {
            // A cache that cannot be written costs time alone.
            let _ = records::write_whole(&folder.join(&file), text.as_bytes());
        }
        Ok(text)
    }
}

/// PTX under the lowest version that knows the architecture, where the assembler beside `nvcc` takes it: drivers refuse versions newer than
/// themselves.
fn lowered(text: &str, arch: &Arch, nvcc: &str, scratch: &Path) -> Option<String> {
    let stated = text.lines().find(|l| l.starts_with(".version"))?;
    let text = text.replacen(stated, &format!(".version {}", arch.version), 1);
    std::fs::write(scratch, &text).ok()?;
    let ptxas = Path::new(nvcc).with_file_name("ptxas");
    let to = scratch.with_extension("cubin");
    let output = Command::new(ptxas).arg(format!("-arch={}", arch.target)).arg(scratch).arg("-o").arg(&to).output().ok()?;
    let _ = std::fs::remove_file(&to);
    output.status.success().then_some(text)
}

/// The calls of some graphs, each symbol once.
pub(crate) fn calls<'a>(graphs: impl IntoIterator<Item = &'a Graph>) -> Vec<&'a Call> {
    let nodes = graphs.into_iter().flat_map(|g| &g.nodes);
    let mut all: Vec<&Call> = nodes.filter_map(|n| if let Op::Custom(call) = &n.op { Some(call.as_ref()) } else { None }).collect();
    all.sort_by(|a, b| a.symbol.cmp(&b.symbol));
    all.dedup_by(|a, b| a.symbol == b.symbol);
    all
}

/// Compiles the CPU's functions into the crate that a build script belongs to.
///
/// # Errors
/// What the C compiler says, or which operator has no C source.
pub(crate) fn link(calls: &[Call]) -> Result<(), Diags> {
    for call in calls {
        let Some((path, defines)) = call.c() else {
            return Err(Diag::new(format!("{} has no source for the CPU", call.name)).help("give it with `.c(\"...\")`").into());
        };
        let mut build = cc::Build::new();
        build.file(path).opt_level(3);
        for (name, value) in defines {
            build.define(name, value);
        }
        build.try_compile(&call.symbol).map_err(|e| Diags::from(Diag::new(format!("{}: {e}", path.display()))))?;
    }
    Ok(())
}
