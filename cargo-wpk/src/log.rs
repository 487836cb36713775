//! What was measured, line by line as it happens, in the user's cache: a search that was interrupted goes on from there.

use crate::measure::Outcome;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use wpk_build::records::Timed;

/// The measurements of one problem on one device.
pub struct Log {
    file: Option<File>,
    /// What an earlier search measured.
    pub before: Vec<(Timed, Outcome)>,
}

impl Log {
    /// Opens the log of a record's file; without `resume` it begins anew. Without a folder nothing is kept.
    pub fn open(folder: Option<&Path>, record: &Path, resume: bool) -> Self {
        let Some(path) = folder.map(|f| f.join(record).with_extension("jsonl")) else { return Self { file: None, before: vec![] } };
        let before = if resume { read(&path) } else { vec![] };
        let parent = path.parent().map(std::fs::create_dir_all);
        let mut options = File::options();
        // A line that was cut stays behind the whole ones, and is not read.
        let options = if resume { options.append(true) } else { options.write(true).truncate(true) };
        let file = parent.and_then(Result::ok).and_then(|()| options.create(true).open(&path).ok());
        let mut log = Self { file, before };
        if resume {
            log.line("\n");
        }
        log
    }

    fn line(&mut self, text: &str) {
        // A log that cannot be written costs a resumption, no result.
        self.file = self.file.take().filter(|mut f| f.write_all(text.as_bytes()).is_ok());
    }

    /// Adds measurements.
    pub fn add(&mut self, measured: &[(Timed, Outcome)]) {
        let lines = measured.iter().map(|(timed, outcome)| {
            let mut value = timed.to_json();
            match outcome {
                Ok(ns) => value["ns"] = json!(ns),
                Err(reason) => value["failed"] = json!(reason),
            }
            format!("{value}\n")
        });
        let text: String = lines.collect();
        self.line(&text);
    }
}

fn read(path: &PathBuf) -> Vec<(Timed, Outcome)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let entry = |line: &str| {
        let value: Value = serde_json::from_str(line).ok()?;
        let timed = Timed::from_json(&value)?;
        let outcome = value["failed"].as_str().map_or(Ok(timed.ns), |reason| Err(reason.to_owned()));
        Some((timed, outcome))
    };
    text.lines().filter_map(entry).collect()
}
