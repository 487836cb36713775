//! The architecture's invariants, checked on the manifests and the sources.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Dependencies of each package for ordinary and build use, with every transitive one.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    let meta: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let name: BTreeMap<&str, &str> = meta["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|p| (p["id"].as_str().expect("id"), p["name"].as_str().expect("name")))
        .collect();
    let mut direct: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in meta["resolve"]["nodes"].as_array().expect("nodes") {
        let used = node["deps"]
            .as_array()
            .expect("deps")
            .iter()
            .filter(|d| d["dep_kinds"].as_array().is_some_and(|k| k.iter().any(|k| k["kind"] != "dev")));
        let names = used.map(|d| name[d["pkg"].as_str().expect("pkg")].to_owned());
        direct.entry(name[node["id"].as_str().expect("id")].to_owned()).or_default().extend(names);
    }
    let mut all = direct.clone();
    loop {
        let next: BTreeMap<_, BTreeSet<String>> = all
            .iter()
            .map(|(k, v)| (k.clone(), v.iter().chain(v.iter().filter_map(|d| all.get(d)).flatten()).cloned().collect()))
            .collect();
        if next == all {
            return all;
        }
        all = next;
    }
}

#[test]
fn arrows_point_one_way() {
    let all = dependencies();
    let forbidden: &[(&str, &[&str])] = &[
        ("wpk-rt", &["wpk-build", "wpk-kernels", "wpk-macros", "prost"]),
        ("wpk-build", &["wpk-rt", "cudarc"]),
        ("wpk-macros", &["wpk-rt", "cudarc"]),
        ("wpk-kernels", &["wpk-build", "wpk-rt", "prost", "cudarc"]),
    ];
    for (package, others) in forbidden {
        for other in *others {
            assert!(!all[*package].contains(*other), "{package} depends on {other}");
        }
    }
    assert!(all["wpk-plan"].is_empty(), "wpk-plan depends on {:?}", all["wpk-plan"]);
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target" && !n.to_string_lossy().starts_with('.')) {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("text");
            found.push((path, text));
        }
    }
    found.sort();
    found
}

#[test]
fn every_operator_file_is_a_row() {
    let folder = root().join("wpk-build/src/ops");
    let helpers = [
        "mod",
        "context",
        "counted",
        "random",
        "pointwise",
        "reducing",
        "spatial",
        "resampling",
        "windowing",
        "fourier",
        "skipping",
        "sampling",
        "recurrent",
    ];
    let files = sources(&folder)
        .into_iter()
        .map(|(p, _)| p.file_stem().expect("a name").to_string_lossy().into_owned())
        .filter(|n| !helpers.contains(&n.as_str()))
        .count();
    let names: BTreeSet<&str> = wpk_build::ops::TABLE.iter().map(|op| op.name).collect();
    assert_eq!((names.len(), wpk_build::ops::TABLE.len()), (files, files), "files, rows and names differ");
}

#[test]
fn files_stay_small_and_hold_no_hash_map_iteration() {
    for (path, text) in sources(&root()) {
        let lines = text.lines().count();
        assert!(lines <= 700, "{} has {lines} lines", path.display());
        let compiler = path.starts_with(root().join("wpk-build/src")) && !path.ends_with("graph/builder.rs");
        assert!(!(compiler && text.contains("HashMap")), "{}: hash maps have no order; the builder's is never iterated", path.display());
    }
}

#[test]
fn only_the_runtime_and_the_memory_map_are_unsafe() {
    for (path, text) in sources(&root()) {
        let relative = path.strip_prefix(root()).expect("below the root").to_owned();
        let allowed = ["wpk-rt/", "tests/", "wpk-build/src/onnx/load.rs", "wpk-build/src/emit.rs", "wpk-build/src/codegen/", "bench/"];
        let uses = text.lines().any(|l| l.contains("unsafe {") || l.contains("unsafe fn"));
        assert!(!uses || allowed.iter().any(|a| relative.starts_with(a) || relative == Path::new(a)), "{} is unsafe", relative.display());
    }
}

#[test]
fn the_map_names_every_package() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    for folder in ["wpk-plan", "wpk-build", "wpk-macros", "wpk-rt", "kernels", "cargo-wpk", "xtask", "tests", "examples", "bench"] {
        assert!(map.contains(&format!("`{folder}/`")), "ARCHITECTURE.md does not name {folder}/");
    }
}
