//! Tuning records: the fastest schedule that a search found for a problem on a device, one small file each, made to be committed.
//!
//! `FOLDER/<device>/<family>-<hash>.json`, sorted and stable, so that git merges them. Schedules are stored by the names of their
//! parameters. The whole problem is stored and compared, and the hash of the PTX that the schedule yielded: a record that another
//! version of the generator made is no record any more, though its schedule can still begin a search. Beside a record lie the cubins
//! of that PTX, named by its hash.

use crate::hash;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use wpk_kernels::arch::Arch;
use wpk_kernels::family::{Generated, spaces};
use wpk_kernels::schedule::Param;
use wpk_plan::problem::Problem;
use wpk_plan::{Bytes, Codec, Cubin, WeightLayout};

/// The folder of records in a workspace or package.
pub const FOLDER: &str = ".wpk/tune";

/// A problem on an architecture.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

impl Key {
    /// Of a problem with its weights in a layout.
    pub fn new(problem: &Problem, layout: WeightLayout, arch: &Arch) -> Self {
        let mut bytes = arch.target.as_bytes().to_vec();
        bytes.push(0);
        layout.encode(&mut bytes);
        problem.encode(&mut bytes);
        Self(bytes)
    }

    fn hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// A schedule by the names of its parameters, with the nanoseconds it took.
pub type Timed = (BTreeMap<String, u32>, f64);

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The problem in words.
    pub problem: String,
    /// The device's name as its driver tells it.
    pub device: String,
    /// Its architecture.
    pub arch: String,
    /// The fastest schedule's family.
    pub family: String,
    /// The fastest schedules, at most eight, best first.
    pub best: Vec<Timed>,
    /// The hash of the PTX that the fastest yielded.
    pub ptx: String,
    /// Which search found it, and how many schedules it measured.
    pub search: (String, u64),
    key: String,
    /// The folder that its file was read from.
    home: Option<PathBuf>,
}

/// Schedules that a record keeps.
const KEPT: usize = 8;

impl Record {
    /// For a problem; `best` by values of the family's parameters, best first.
    pub fn new(
        key: &Key,
        problem: &Problem,
        (device, arch): (&str, &Arch),
        family: &str,
        params: &[Param],
        best: &[(Vec<u32>, f64)],
    ) -> Self {
        let named = |v: &[u32]| params.iter().zip(v).map(|(p, &v)| (p.name.to_owned(), v)).collect();
        Self {
            problem: format!("{} {}", problem.family(), problem.describe()),
            device: device.to_owned(),
            arch: arch.target.to_owned(),
            family: family.to_owned(),
            best: best.iter().take(KEPT).map(|(v, ns)| (named(v), ns.round())).collect(),
            ptx: String::new(),
            search: (String::new(), 0),
            key: key.hex(),
            home: None,
        }
    }

    /// The file's name.
    pub fn file(&self) -> PathBuf {
        let slug = |text: &str| {
            let letters = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
            letters.collect::<String>()
        };
        let name = format!("{}-{}.json", self.family, &hash::hex(self.key.as_bytes())[..16]);
        Path::new(&slug(&self.device)).join(name)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let best: Vec<Value> = self.best.iter().map(|(schedule, ns)| json!({"schedule": schedule, "ns": ns})).collect();
        let value = json!({
            "version": 1, "problem": self.problem, "key": self.key, "device": self.device, "arch": self.arch, "family": self.family,
            "best": best, "ptx": self.ptx, "search": {"name": self.search.0, "measured": self.search.1},
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
        if value["version"] != 1 {
            return Err(format!("version {} of a record, which this wpk does not read", value["version"]));
        }
        let word = |v: &Value, key: &str| v[key].as_str().map(str::to_owned).ok_or_else(|| format!("no {key:?}"));
        let timed = |v: &Value| -> Option<Timed> {
            let schedule = v["schedule"].as_object()?.iter().map(|(k, x)| Some((k.clone(), x.as_u64()? as u32))).collect::<Option<_>>()?;
            Some((schedule, v["ns"].as_f64()?))
        };
        let best: Option<Vec<Timed>> = value["best"].as_array().and_then(|list| list.iter().map(timed).collect());
        Ok(Self {
            problem: word(&value, "problem")?,
            device: word(&value, "device")?,
            arch: word(&value, "arch")?,
            family: word(&value, "family")?,
            best: best.filter(|b| !b.is_empty()).ok_or("no \"best\"")?,
            ptx: word(&value, "ptx")?,
            search: (word(&value["search"], "name")?, value["search"]["measured"].as_u64().unwrap_or(0)),
            key: word(&value, "key")?,
            home: None,
        })
    }

    /// The values of a schedule, in the order of a family's parameters.
    pub fn values(timed: &Timed, params: &[Param]) -> Option<Vec<u32>> {
        params.iter().map(|p| timed.0.get(p.name).copied()).collect()
    }

    /// The kernel of the fastest schedule.
    ///
    /// # Errors
    /// Why the record does not serve: its family, its schedule, or its PTX belong to another version.
    pub fn generate(&self, problem: &Problem, layout: WeightLayout, arch: &Arch) -> Result<Generated, String> {
        let all = spaces(problem, layout, arch);
        let space = all.iter().find(|s| s.family == self.family).ok_or_else(|| format!("there is no family {}", self.family))?;
        let values = Self::values(&self.best[0], space.params).ok_or("its schedule has other parameters")?;
        let made = space.generate(&values).map_err(|e| e.to_string())?;
        if hash::hex(made.kernel.text(arch).as_bytes()) != self.ptx {
            return Err("another version of the generator made it".to_owned());
        }
        Ok(Generated { cost: self.best[0].1, ..made })
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
        for path in list(&home.join(self.file()).with_file_name("")) {
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
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    let temporary = parent.join(format!(".{}-{}", std::process::id(), path.file_name().unwrap_or_default().to_string_lossy()));
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, path)
}

/// Records by their problems.
#[derive(Debug, Clone, Default)]
pub struct Records {
    by_key: BTreeMap<String, Record>,
    /// Files that are no records, with the reason.
    pub unread: Vec<(PathBuf, String)>,
    /// The folders that were read.
    pub folders: Vec<PathBuf>,
}

impl Records {
    /// The records of some folders; earlier folders come first, and of one folder the fastest.
    pub fn open(folders: &[PathBuf]) -> Self {
        let mut records = Self::default();
        for folder in folders.iter().filter(|f| f.is_dir()) {
            records.folders.push(folder.clone());
            let mut own = Self::default();
            for path in files(folder) {
                let read = std::fs::read_to_string(&path).map_err(|e| e.to_string()).and_then(|text| Record::parse(&text));
                match read {
                    Ok(record) => own.add(Record { home: Some(folder.clone()), ..record }),
                    Err(reason) => records.unread.push((path, reason)),
                }
            }
            for (key, record) in own.by_key {
                records.by_key.entry(key).or_insert(record);
            }
        }
        records
    }

    /// Adds a record, unless a faster one of the same problem is there.
    pub fn add(&mut self, record: Record) {
        let known = self.by_key.get(&record.key);
        if known.is_none_or(|k| record.best[0].1 < k.best[0].1) {
            self.by_key.insert(record.key.clone(), record);
        }
    }

    /// The record of a problem.
    pub fn get(&self, key: &Key) -> Option<&Record> {
        self.by_key.get(&key.hex())
    }

    /// Every record, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.by_key.values()
    }
}

/// Record files of a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let hidden = |p: &Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
    let json = |p: &PathBuf| p.extension().is_some_and(|e| e == "json") && !hidden(p);
    list(folder).into_iter().filter(|p| p.is_dir()).flat_map(|d| list(&d)).filter(json).collect()
}

/// What lies in a folder, in order.
fn list(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    entries
}

/// Where records are looked for: the nearest `.wpk/tune` at or above a folder, then the user's.
pub fn places(start: &Path, user: Option<PathBuf>) -> Vec<PathBuf> {
    let above = start.ancestors().map(|a| a.join(FOLDER)).find(|f| f.is_dir());
    above.into_iter().chain(user).collect()
}

/// The user's records: in `WPK_CACHE_DIR`, else where the platform keeps caches.
pub fn user_folder(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(dir) = variable("WPK_CACHE_DIR") {
        return Some(Path::new(&dir).join("tune"));
    }
    let home = || variable("HOME").map(PathBuf::from);
    let cache = match std::env::consts::OS {
        "windows" => variable("LOCALAPPDATA").map(PathBuf::from),
        "macos" => home().map(|h| h.join("Library/Caches")),
        _ => variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| home().map(|h| h.join(".cache"))),
    };
    cache.map(|c| c.join("wpk/tune"))
}
