//! Folders of records, and which record serves a problem.

use super::{Key, Record, Timed};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wpk_kernels::arch::Arch;
use wpk_kernels::family::Generated;
use wpk_plan::WeightLayout;
use wpk_plan::problem::Problem;

/// The folder of records in a workspace or package.
pub const FOLDER: &str = ".wpk/tune";

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

    /// Adds a record; with one of the same problem it becomes one.
    pub fn add(&mut self, record: Record) {
        let key = record.key.clone();
        let record = match self.by_key.remove(&key) {
            Some(known) => known.clone().merged(record).unwrap_or(known),
            None => record,
        };
        self.by_key.insert(key, record);
    }

    /// The record of a problem.
    pub fn get(&self, key: &Key) -> Option<&Record> {
        self.by_key.get(&key.hex())
    }

    /// The schedules of records of problems like one, the most alike first: the same family and architecture, extents that differ least.
    pub fn similar(&self, problem: &Problem, layout: WeightLayout, arch: &Arch) -> Vec<(&Record, &Timed)> {
        let own = extents(problem);
        let distance = |r: &Record| {
            let (target, other_layout, other) = Key::parts(&r.key)?;
            let alike = target == arch.target && other_layout == layout && other.family() == problem.family();
            let theirs = extents(&other);
            let comparable = alike && theirs.len() == own.len();
            comparable.then(|| own.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).sum::<f64>())
        };
        let mut found: Vec<(f64, &Record)> = self.iter().filter_map(|r| Some((distance(r)?, r))).collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        found.into_iter().filter_map(|(_, r)| Some((r, r.schedule()?))).collect()
    }

    /// The kernel that the nearest record's schedule makes of a problem without a record of its own, where one of the nearest
    /// serves: it is legal here, and the estimate thinks it not much worse than its own choice.
    pub fn nearest(&self, problem: &Problem, layout: WeightLayout, arch: &Arch, own: f64) -> Option<(Generated, &Record)> {
        let made = |(r, t): (_, &Timed)| Some((t.generate(problem, layout, arch).ok()?, r));
        self.similar(problem, layout, arch).into_iter().take(NEAR).find_map(made).filter(|(made, _)| made.cost < 1.1 * own)
    }

    /// Cubins that belong to no record of their folder, and what interrupted writers left.
    pub fn strays(&self) -> Vec<PathBuf> {
        let kept: Vec<PathBuf> = self.folders.iter().flat_map(|f| self.iter().map(|r| f.join(r.cubin("")))).collect();
        let belongs = |path: &PathBuf| {
            let name = path.to_string_lossy();
            kept.iter().any(|k| name.starts_with(k.to_string_lossy().trim_end_matches(".cubin")))
        };
        let all = self.folders.iter().flat_map(|f| list(f)).filter(|p| p.is_dir()).flat_map(|d| list(&d));
        let hidden = |p: &Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        all.filter(|p| hidden(p) || p.extension().is_some_and(|e| e == "cubin") && !belongs(p)).collect()
    }

    /// Every record, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.by_key.values()
    }
}

/// Records that are asked whether their schedule serves a problem like theirs.
const NEAR: usize = 3;

/// The logarithms of a problem's extents, with its size in bytes of elements.
fn extents(problem: &Problem) -> Vec<f64> {
    let operands = problem.inputs().into_iter().chain(problem.outputs());
    let sizes = operands
        .flat_map(|o| o.view.shape.iter().map(|&n| (n.max(1) as f64).log2()).chain([8.0 * (o.dtype.bytes() as f64)]).collect::<Vec<_>>());
    sizes.collect()
}

/// Record files of a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let hidden = |p: &Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
    let json = |p: &PathBuf| p.extension().is_some_and(|e| e == "json") && !hidden(p);
    list(folder).into_iter().filter(|p| p.is_dir()).flat_map(|d| list(&d)).filter(json).collect()
}

/// What lies in a folder, in order.
pub(super) fn list(dir: &Path) -> Vec<PathBuf> {
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
