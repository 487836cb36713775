//! Plan files: which cover of a model was fastest as a whole on a device, and what the plan took there.
//!
//! `.wpk/plan/<device>/<model>-<graph hash>-<precision>-<bucket>.json`, beside the records' folder.

use super::{slug, store::list, write_whole};
use crate::hash;
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};

/// What was found for one bucket of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanFile {
    /// The device's name.
    pub device: String,
    /// The cover that was fastest.
    pub cover: String,
    /// The files of the records that the plan uses.
    pub records: Vec<String>,
    /// Nanoseconds of the whole plan.
    pub ns: f64,
    /// Nanoseconds of the plan that estimates alone make.
    pub heuristic: f64,
}

/// The name of a plan's file: by the model's name, its graph, and what it is compiled for.
pub fn name(model: &str, graph: &str, precision: &str, bucket: &[usize]) -> String {
    let sizes: Vec<String> = bucket.iter().map(ToString::to_string).collect();
    let bucket = if sizes.is_empty() { "static".to_owned() } else { sizes.join("x") };
    format!("{}-{}-{precision}-{bucket}.json", slug(model), &hash::hex(graph.as_bytes())[..16])
}

/// The folder of plan files beside a folder of records.
fn beside(records: &Path) -> PathBuf {
    records.with_file_name("plan")
}

impl PlanFile {
    /// Writes it beside a folder of records.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn write(&self, records: &Path, name: &str) -> io::Result<PathBuf> {
        let value = json!({
            "version": 1, "device": self.device, "cover": self.cover, "records": self.records, "ns": self.ns.round(),
            "heuristic_ns": self.heuristic.round(),
        });
        let path = beside(records).join(slug(&self.device)).join(name);
        write_whole(&path, (serde_json::to_string_pretty(&value).unwrap_or_default() + "\n").as_bytes())?;
        Ok(path)
    }

    /// The plan of a name beside some folders of records: of the first folder that has it, the fastest.
    pub fn find(records: &[PathBuf], name: &str) -> Option<Self> {
        records.iter().find_map(|folder| {
            let files = list(&beside(folder)).into_iter().filter(|d| d.is_dir()).map(|d| d.join(name));
            let mut found: Vec<Self> = files.filter_map(|f| Self::parse(&std::fs::read_to_string(f).ok()?)).collect();
            found.sort_by(|a, b| a.ns.total_cmp(&b.ns));
            found.into_iter().next()
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let word = |key: &str| value[key].as_str().map(str::to_owned);
        Some(Self {
            device: word("device")?,
            cover: word("cover")?,
            records: value["records"].as_array()?.iter().filter_map(|r| r.as_str().map(str::to_owned)).collect(),
            ns: value["ns"].as_f64()?,
            heuristic: value["heuristic_ns"].as_f64()?,
        })
        .filter(|_| value["version"] == 1)
    }
}
