//! The ONNX backend tests on the CPU plan.

use crate::case::{On, Verdict, cases};
use crate::{Outcome, fetch, root};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The suites of the package that hold models.
const SUITES: &[&str] = &["node", "simple", "pytorch-converted", "pytorch-operator", "light"];

/// Runs every case, prints the counts and compares them with the committed ones; `--bless` commits new ones, a name
/// selects cases. `--emulated` runs the GPU plans of the node cases in the emulator instead.
pub fn conformance(args: &[String]) -> Outcome {
    let bless = args.iter().any(|a| a == "--bless");
    let place = if args.iter().any(|a| a == "--emulated") { On::Emulator } else { On::Cpu };
    let filter = args.iter().find(|a| !a.starts_with("--"));
    let data = fetch::onnx_cases()?;
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (mut counts, mut refused) = (BTreeMap::new(), BTreeMap::new());
    let mut bad = vec![];
    for suite in SUITES.iter().take(if place == On::Emulator { 1 } else { SUITES.len() }) {
        let (mut passed, mut bound, mut wrong, mut panicked) = (0, 0, 0, 0);
        let mut reasons = BTreeMap::new();
        for case in cases(&data, suite)? {
            if filter.is_some_and(|f| !case.name.contains(f.as_str())) {
                continue;
            }
            match case.run(place) {
                Verdict::Passed { bound: b } => {
                    passed += 1;
                    bound += usize::from(b);
                }
                Verdict::Refused(why) => {
                    if filter.is_some() {
                        println!("{suite}/{}: refused: {why}", case.name);
                    }
                    reasons.insert(case.name, reason(&why));
                }
                Verdict::Wrong(why) => {
                    wrong += 1;
                    bad.push(format!("{suite}/{}: wrong: {why}", case.name));
                }
                Verdict::Panicked(why) => {
                    panicked += 1;
                    bad.push(format!("{suite}/{}: panicked: {why}", case.name));
                }
            }
        }
        println!("{suite}: {passed} passed ({bound} bound), {} refused, {wrong} wrong, {panicked} panicked", reasons.len());
        let row = if place == On::Emulator { "node, GPU plans" } else { suite };
        counts.insert(row, json!({"passed": passed, "bound": bound, "refused": reasons.len(), "wrong": wrong, "panicked": panicked}));
        refused.insert(row, reasons);
    }
    std::panic::set_hook(quiet);
    bad.iter().for_each(|b| println!("{b}"));
    if filter.is_some() {
        return if bad.is_empty() { Ok(()) } else { Err("some cases are wrong".to_owned()) };
    }
    let folder = root().join("tests/conformance");
    let committed = |name: &str| std::fs::read(folder.join(name)).ok().and_then(|b| serde_json::from_slice::<Value>(&b).ok());
    if bless {
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        // What another run counted stays.
        for (name, now) in [("results.json", json!(counts)), ("refused.json", json!(refused))] {
            let mut all = committed(name).unwrap_or_else(|| json!({}));
            now.as_object().into_iter().flatten().for_each(|(row, value)| all[row] = value.clone());
            write(&folder.join(name), &all)?;
        }
        return Ok(());
    }
    let committed = committed("results.json").ok_or("no committed results: run with --bless")?;
    for (suite, now) in &counts {
        let of = |v: &Value, key: &str| v[key].as_u64().unwrap_or(0);
        let before = &committed[*suite];
        let worse = of(now, "passed") < of(before, "passed") || ["wrong", "panicked"].iter().any(|k| of(now, k) > of(before, k));
        if worse {
            return Err(format!("{suite} got worse: {now} instead of {before}"));
        }
    }
    Ok(())
}

/// The first line of a refusal, without the file's name.
fn reason(why: &str) -> String {
    let line = why.lines().next().unwrap_or_default();
    line.strip_prefix("model.onnx: ").unwrap_or(line).to_owned()
}

fn write(path: &std::path::Path, value: &Value) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(|e| e.to_string())?;
    std::fs::write(path, text + "\n").map_err(|e| format!("{}: {e}", path.display()))
}
