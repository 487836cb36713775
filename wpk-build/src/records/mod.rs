//! Tuning records: the fastest schedule that a search found for a problem on a device, one small file each, made to be committed.
//!
//! `FOLDER/<device>/<family>-<hash>.json`, sorted and stable, so that git merges them. Schedules are stored by the names of their
//! parameters, calls of libraries by engine, knobs and version. The whole problem is stored and compared, and the hash of the PTX that
//! the fastest schedule yielded: a record that another version of the generator made is no record any more, though its schedule can
//! still begin a search. Beside a record lie the cubins of that PTX, named by its hash.

mod cpu;
mod plans;
mod store;

pub use cpu::schedules;
pub use plans::{PlanFile, name as plan_name};
pub use store::{FOLDER, Records, places, user_folder};

use crate::hash;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use wpk_kernels::arch::Arch;
use wpk_kernels::family::{Generated, spaces};
use wpk_kernels::schedule::Param;
use wpk_plan::library::{Call, Library, Linear};
use wpk_plan::problem::Problem;
use wpk_plan::{Bytes, Codec, Cubin, Reader, WeightLayout};

/// A problem on an architecture.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

impl Key {
    /// Of a problem with its weights in a layout.
    pub fn new(problem: &Problem, layout: WeightLayout, arch: &Arch) -> Self {
        Self::on(problem, layout, arch.target)
    }

    /// On a target by name: an architecture, or a kind of processor with its threads.
    pub fn on(problem: &Problem, layout: WeightLayout, target: &str) -> Self {
        let mut bytes = target.as_bytes().to_vec();
        bytes.push(0);
        layout.encode(&mut bytes);
        problem.encode(&mut bytes);
        Self(bytes)
    }

    /// The text that records store.
    pub fn hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The architecture, layout and problem of a key as records store it.
    pub fn parts(hex: &str) -> Option<(String, WeightLayout, Problem)> {
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Vec<u8> = hex.as_bytes().chunks(2).map(byte).collect::<Option<_>>()?;
        let end = bytes.iter().position(|&b| b == 0)?;
        let mut reader = Reader::new(&bytes[end + 1..]);
        let layout = WeightLayout::decode(&mut reader).ok()?;
        let problem = Problem::decode(&mut reader).ok()?;
        Some((String::from_utf8(bytes[..end].to_vec()).ok()?, layout, problem))
    }
}

/// What was measured: a schedule of a family by the names of its parameters, or a call of a library by engine and knobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    /// The family, or the library.
    pub family: String,
    /// The values of parameters or knobs.
    pub schedule: BTreeMap<String, i64>,
    /// Nanoseconds.
    pub ns: f64,
}

impl Timed {
    /// A schedule, by values of its family's parameters.
    pub fn schedule(family: &str, params: &[Param], values: &[u32], ns: f64) -> Self {
        let named = params.iter().zip(values).map(|(p, &v)| (p.name.to_owned(), i64::from(v)));
        Self { family: family.to_owned(), schedule: named.collect(), ns: ns.round() }
    }

    /// A call of a library.
    pub fn call(call: &Call, ns: f64) -> Self {
        let own = [("engine", call.engine), ("version", call.version as i64), ("workspace", call.workspace as i64)];
        let own = own.map(|(name, v)| (name.to_owned(), v));
        let knobs = call.knobs.iter().map(|(k, v)| (format!("knob {k:02}"), *v));
        Self { family: call.library.to_string(), schedule: own.into_iter().chain(knobs).collect(), ns: ns.round() }
    }

    /// As a file holds it.
    pub fn to_json(&self) -> Value {
        json!({"family": self.family, "schedule": self.schedule, "ns": self.ns})
    }

    /// What [`Timed::to_json`] made.
    pub fn from_json(v: &Value) -> Option<Self> {
        let schedule = v["schedule"].as_object()?.iter().map(|(k, x)| Some((k.clone(), x.as_i64()?))).collect::<Option<_>>()?;
        Some(Self { family: v["family"].as_str()?.to_owned(), schedule, ns: v["ns"].as_f64()? })
    }

    /// The library whose call it is.
    pub fn library(&self) -> Option<Library> {
        [Library::CublasLt, Library::Cudnn].into_iter().find(|l| l.to_string() == self.family)
    }

    /// The call, for a sum that is the problem's.
    pub fn as_call(&self, linear: Linear) -> Option<Call> {
        let value = |name: &str| self.schedule.get(name).copied();
        let knob = |(name, v): (&String, &i64)| Some((name.strip_prefix("knob ")?.parse().ok()?, *v));
        Some(Call {
            library: self.library()?,
            version: value("version")? as u64,
            linear,
            engine: value("engine")?,
            knobs: self.schedule.iter().filter_map(knob).collect(),
            workspace: usize::try_from(value("workspace")?).ok()?,
        })
    }

    /// The values of a schedule, in the order of a family's parameters. The last that a record does not know have their first values, which
    /// stand for how kernels were before they came.
    pub fn values(&self, params: &[Param]) -> Option<Vec<u32>> {
        let known = params.iter().rposition(|p| self.schedule.contains_key(p.name))?;
        let value = |(i, p): (usize, &Param)| match self.schedule.get(p.name) {
            Some(&v) => u32::try_from(v).ok(),
            None => p.values.first().copied().filter(|_| i > known),
        };
        params.iter().enumerate().map(value).collect()
    }

    /// The kernel of a schedule.
    ///
    /// # Errors
    /// Where it is none of the problem's.
    pub fn generate(&self, problem: &Problem, layout: WeightLayout, arch: &Arch) -> Result<Generated, String> {
        let all = spaces(problem, layout, arch);
        let space = all.iter().find(|s| s.family == self.family).ok_or_else(|| format!("there is no family {}", self.family))?;
        let values = self.values(space.params).ok_or("its schedule has other parameters")?;
        space.generate(&values).map_err(|e| e.to_string())
    }
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The problem in words.
    pub problem: String,
    /// The device's name as its driver tells it.
    pub device: String,
    /// Its architecture; of processors the kind with the number of threads.
    pub arch: String,
    /// What was fastest, at most eight, best first; a schedule is always among them.
    pub best: Vec<Timed>,
    /// The families whose schedules were measured.
    pub families: BTreeSet<String>,
    /// The hash of the PTX that the fastest schedule yielded.
    pub ptx: String,
    /// Which search found it, and how much it measured.
    pub search: (String, u64),
    key: String,
    /// The folder that its file was read from.
    home: Option<PathBuf>,
}

/// The version of the files.
const VERSION: u64 = 3;

/// The name of the file of a problem's record on a device, by the problem's family and key.
pub fn file(device: &str, family: &str, key: &str) -> PathBuf {
    Path::new(&slug(device)).join(format!("{family}-{}.json", &hash::hex(key.as_bytes())[..16]))
}

/// A name as folders have it.
pub fn slug(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// What a record keeps.
const KEPT: usize = 8;

impl Record {
    /// For a problem; of what was measured, in any order, the fastest is kept, and the estimate's choice. `None` without a schedule.
    pub fn new(
        key: &Key,
        problem: &Problem,
        (device, target): (&str, &str),
        mut measured: Vec<Timed>,
        estimated: Option<Timed>,
    ) -> Option<Self> {
        let families = measured.iter().filter(|t| t.library().is_none()).map(|t| t.family.clone()).collect();
        measured.sort_by(|a, b| a.ns.total_cmp(&b.ns));
        let schedule = measured.iter().position(|t| t.library().is_none())?;
        if schedule >= KEPT {
            measured.swap(schedule, KEPT - 1);
        }
        let estimated = estimated.and_then(|e| measured.iter().position(|t| t.family == e.family && t.schedule == e.schedule));
        if let Some(at) = estimated.filter(|&at| at >= KEPT) {
            measured.swap(at, if schedule >= KEPT { KEPT - 2 } else { KEPT - 1 });
        }
        measured.truncate(KEPT);
        Some(Self {
            problem: format!("{} {}", problem.family(), problem.describe()),
            device: device.to_owned(),
            arch: target.to_owned(),
            best: measured,
            families,
            ptx: String::new(),
            search: (String::new(), 0),
            key: key.hex(),
            home: None,
        })
    }

    /// The key, as its text.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The fastest schedule.
    pub fn schedule(&self) -> Option<&Timed> {
        self.best.iter().find(|t| t.library().is_none())
    }

    /// One of two for the same problem: the faster, with the fastest of both. `None` where they are of different problems.
    pub fn merged(self, other: Self) -> Option<Self> {
        if self.key != other.key {
            return None;
        }
        let (mut fast, slow) = if other.best[0].ns < self.best[0].ns { (other, self) } else { (self, other) };
        // Schedules of another version of the generator tell nothing about this one's.
        if fast.ptx.is_empty() || fast.device != slow.device {
            return Some(fast);
        }
        fast.families.extend(slow.families);
        let schedule = fast.schedule().cloned();
        let new = slow.best.into_iter().filter(|t| !fast.best.iter().any(|f| (&f.family, &f.schedule) == (&t.family, &t.schedule)));
        // The fastest schedule stays the one whose kernel the record is sealed with.
        let new: Vec<Timed> = new.filter(|t| t.library().is_some() || schedule.as_ref().is_some_and(|s| t.ns >= s.ns)).collect();
        fast.best.extend(new);
        fast.best.sort_by(|a, b| a.ns.total_cmp(&b.ns));
        fast.best.truncate(KEPT.max(fast.best.iter().position(|t| t.library().is_none()).map_or(0, |i| i + 1)));
        Some(fast)
    }

    /// Makes the fastest schedule's kernel the record's.
    ///
    /// # Errors
    /// Where it cannot be generated.
    pub fn seal(&mut self, problem: &Problem, layout: WeightLayout, arch: &Arch) -> Result<(), String> {
        let made = self.schedule().ok_or("it has no schedule")?.generate(problem, layout, arch)?;
        self.ptx = hash::hex(made.kernel.text(arch).as_bytes());
        Ok(())
    }

    /// The file's name.
    pub fn file(&self) -> PathBuf {
        file(&self.device, self.problem.split(' ').next().unwrap_or_default(), &self.key)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let best: Vec<Value> = self.best.iter().map(Timed::to_json).collect();
        let value = json!({
            "version": VERSION, "problem": self.problem, "key": self.key, "device": self.device, "arch": self.arch, "best": best, "families": self.families, "ptx": self.ptx, "search": {"name": self.search.0, "measured": self.search.1},
        });
        // Writing a value as text cannot fail.
        serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// What is missing or has another form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if value["version"] != VERSION {
            return Err(format!("version {} of a record, which this wpk does not read", value["version"]));
        }
        let word = |v: &Value, key: &str| v[key].as_str().map(str::to_owned).ok_or_else(|| format!("no {key:?}"));
        let best: Option<Vec<Timed>> = value["best"].as_array().and_then(|list| list.iter().map(Timed::from_json).collect());
        let families = value["families"].as_array();
        let families = families.and_then(|list| list.iter().map(|f| f.as_str().map(str::to_owned)).collect());
        Ok(Self {
            problem: word(&value, "problem")?,
            device: word(&value, "device")?,
            arch: word(&value, "arch")?,
            best: best.filter(|b| !b.is_empty()).ok_or("no \"best\"")?,
            families: families.ok_or("no \"families\"")?,
            ptx: word(&value, "ptx")?,
            search: (word(&value["search"], "name")?, value["search"]["measured"].as_u64().unwrap_or(0)),
            key: word(&value, "key")?,
            home: None,
        })
    }

    /// The kernel of the fastest schedule, and the call of a library that was faster, where the search knew the family that estimates
    /// prefer.
    ///
    /// # Errors
    /// Why the record does not serve: its family, its schedule, or its PTX belong to another version, or that family came after it.
    pub fn generate(
        &self,
        (problem, layout, arch): (&Problem, WeightLayout, &Arch),
        preferred: &str,
    ) -> Result<(Generated, Option<Call>), String> {
        if !self.families.contains(preferred) {
            return Err(format!("its search did not know the family {preferred}, which estimates prefer"));
        }
        let made = self.schedule().ok_or("it has no schedule")?.generate(problem, layout, arch)?;
        if hash::hex(made.kernel.text(arch).as_bytes()) != self.ptx {
            return Err("another version of the generator made it".to_owned());
        }
        let call = self.best.first().filter(|t| t.library().is_some());
        let call = call.and_then(|t| t.as_call(wpk_kernels::library::linear(problem, layout)?));
        Ok((made, call))
    }

    /// The name of a cubin beside the file, for a compute capability: it tells the PTX that it was compiled from.
    fn cubin(&self, capability: &str) -> PathBuf {
        self.file().with_extension(format!("{}.sm_{capability}.cubin", self.ptx.get(..16).unwrap_or(&self.ptx)))
    }

    /// What the fastest schedule's PTX was compiled to.
    pub fn cubins(&self) -> Vec<Cubin> {
        let Some(home) = &self.home else { return vec![] };
        let name = self.cubin("").file_name().unwrap_or_default().to_string_lossy().into_owned();
        let before = name.trim_end_matches(".cubin");
        let mut all = vec![];
        for path in store::list(&home.join(self.file()).with_file_name("")) {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let number = file.strip_prefix(before).and_then(|rest| rest.strip_suffix(".cubin"));
            if let (Some(Ok(capability)), Ok(image)) = (number.map(str::parse), std::fs::read(&path)) {
                all.push(Cubin { capability, image: Bytes(image) });
            }
        }
        all
    }

    /// Writes the file into a folder, and the cubins that lie beside it where it was read.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        self.cubins().iter().try_for_each(|c| self.write_cubin(folder, c))?;
        let path = folder.join(self.file());
        write_whole(&path, self.text().as_bytes())?;
        Ok(path)
    }

    /// Writes a cubin of the fastest schedule into a folder.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn write_cubin(&self, folder: &Path, cubin: &Cubin) -> io::Result<()> {
        write_whole(&folder.join(self.cubin(&cubin.capability.to_string())), &cubin.image.0)
    }
}

/// Writes a file as a whole or not at all.
///
/// # Errors
/// Where the folder cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    let temporary = parent.join(format!(".{}-{}", std::process::id(), path.file_name().unwrap_or_default().to_string_lossy()));
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, path)
}
