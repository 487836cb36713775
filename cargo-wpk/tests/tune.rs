//! `cargo wpk tune` on a device that is none: candidates that crash, hang or are wrong, searches that are killed, and two at once.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use wpk_build::hash;
use wpk_build::records::{Records, Timed};
use wpk_tests::text;

/// Products of three shapes and what surrounds them.
const MODEL: &str = "input x f32 8x64\nconst a f32 64x96 random\nconst b f32 96x48 random\nconst c f32 48x10 random\n\
                     h = MatMul(x, a)\nr = Relu(h)\ng = MatMul(r, b)\ns = Softmax(g) axis=-1\ny = MatMul(s, c)\noutput y";

/// A folder with a model, its records and a cache.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("m.onnx"), text::bytes(MODEL)).expect("it is written");
        Self(folder)
    }

    fn records(&self) -> PathBuf {
        self.0.path().join(".wpk/tune")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-wpk"));
        command.current_dir(self.0.path()).env_remove("CARGO_MANIFEST_DIR").env("WPK_CACHE_DIR", self.0.path().join("cache"));
        command.args(["tune", "m.onnx", "--gpu", "sm_80", "--precision", "fp16"]).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn tune(&self, more: &[&str]) -> Output {
        self.command(more).output().expect("it runs")
    }

    fn start(&self, more: &[&str]) -> Child {
        self.command(more).spawn().expect("it starts")
    }

    /// The candidates that failed, by the logs of the cache.
    fn failures(&self) -> Vec<Value> {
        let texts = files(&self.0.path().join("cache/log")).into_iter().map(|f| std::fs::read_to_string(f).unwrap_or_default());
        let lines: Vec<String> = texts.flat_map(|t| t.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let values = lines.iter().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        values.filter(|v| v["failed"].is_string()).collect()
    }

    /// Every record is whole.
    fn check_whole(&self) -> usize {
        let records = Records::open(&[self.records()]);
        assert!(records.unread.is_empty(), "{:?}", records.unread);
        records.iter().count()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.into_iter().flat_map(|p| if p.is_dir() { files(&p) } else { vec![p] }).collect()
}

fn assert_done(place: &Place, done: &Output) {
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}");
    let check = place.tune(&["--check"]);
    assert!(check.status.success(), "{}\n{told}", String::from_utf8_lossy(&check.stdout));
}

#[test]
fn candidates_may_crash_hang_and_be_wrong() {
    let place = Place::new();
    assert_done(&place, &place.tune(&["--simulate", "8", "--limit", "1.0"]));
    let failures = place.failures();
    for reason in ["the process that measured it ended", "it did not end in time", "wrong: relative error 1.0e0"] {
        assert!(failures.iter().any(|f| f["failed"] == reason), "{reason:?} is not in {failures:?}");
    }
    // Only those fail that are made to, one in eight by a hash of the name; none for the fault of the one before.
    for failure in &failures {
        let timed = Timed::from_json(failure).expect("a candidate");
        let number = u64::from_str_radix(&hash::hex(format!("{} {:?}", timed.family, timed.schedule).as_bytes())[..8], 16);
        assert_eq!(number.expect("it is one") % 8, 0, "{failure}");
    }
    assert!(place.check_whole() == 5);
}

#[test]
fn a_search_that_is_killed_leaves_whole_records_and_goes_on() {
    let place = Place::new();
    let mut killed = 0;
    for moment in 0..50 {
        let mut search = place.start(&["--simulate", "0", "--resume"]);
        std::thread::sleep(Duration::from_millis(3 + 5 * (moment * 37 % 50)));
        killed += usize::from(search.try_wait().expect("it is asked").is_none());
        search.kill().and_then(|()| search.wait()).expect("it ends");
        place.check_whole();
    }
    assert!(killed > 10, "only {killed} were killed under way");
    let done = place.tune(&["--simulate", "0", "--resume"]);
    assert_done(&place, &done);
    // What was measured before a kill is not measured again.
    let lines = |f: &PathBuf| std::fs::read_to_string(f).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    for file in files(&place.0.path().join("cache/log")) {
        let name = |l: &String| serde_json::from_str::<Value>(l).ok().map(|v| format!("{} {}", v["family"], v["schedule"]));
        let mut names: Vec<String> = lines(&file).iter().filter_map(name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all, "{}", file.display());
    }
}

#[test]
fn two_searches_at_once_take_turns() {
    let place = Place::new();
    let searches = [place.start(&["--simulate", "0"]), place.start(&["--simulate", "0"])];
    for search in searches {
        assert_done(&place, &search.wait_with_output().expect("it ends"));
    }
    assert_eq!(place.failures(), Vec::<Value>::new());
    place.check_whole();
}

/// The process that measures outlives its search for a moment, or hangs.
#[test]
fn a_search_after_one_that_was_killed_measures_alone() {
    let killed = Place::new();
    let mut search = killed.start(&["--simulate", "1", "--limit", "60"]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(search.try_wait().expect("it is asked").is_none(), "every third candidate hangs");
    search.kill().and_then(|()| search.wait()).expect("it ends");
    let place = Place::new();
    assert_done(&place, &place.tune(&["--simulate", "0"]));
    assert_eq!(place.failures(), Vec::<Value>::new());
}

/// What a build script starts: it ends with records in the cache, which the next build uses, and is not started again.
#[cfg(unix)]
#[test]
fn a_build_has_missing_records_searched_for_once() {
    use std::os::unix::fs::PermissionsExt;
    use wpk_build::tuning::{Settings, arguments, tune};
    let place = Place::new();
    let tuner = place.0.path().join("tuner");
    let script =
        format!("#!/bin/sh\n[ \"$1\" = --version ] && exec {0} --version\nexec {0} \"$@\" --simulate 0\n", env!("CARGO_BIN_EXE_cargo-wpk"));
    std::fs::write(&tuner, script).expect("it is written");
    std::fs::set_permissions(&tuner, std::fs::Permissions::from_mode(0o755)).expect("it is made a program");
    let settings = Settings { tuner, budget: 5.0, out: place.0.path().join("cache/tune") };
    let model = wpk_build::Model::new(place.0.path().join("m.onnx")).gpu("sm_80").precision(wpk_build::Precision::Fp16);
    let model = model.records(&settings.out);
    let compile = || model.build().unwrap_or_else(|d| panic!("{d}"));
    let before = compile();
    let arguments = arguments(&model, "sm_80", &settings).expect("a command line");
    assert_eq!((before.untuned.len(), tune(&arguments, &settings, &before.program.to_bytes())), (5, Ok(())));
    assert_eq!((compile().untuned.len(), tune(&arguments, &settings, &before.program.to_bytes())), (0, Err(None)));
    // Another version's records would be none.
    let other = Settings { tuner: PathBuf::from("/bin/echo"), ..settings };
    let refused = tune(&arguments, &other, b"another plan").expect_err("a refusal").expect("a reason");
    assert!(refused.contains("not of version"), "{refused}");
}

/// Products of a CPU plan, on this processor: records serve the next build, which takes them for this processor alone.
#[test]
fn a_processor_is_searched_on() {
    let place = Place::new();
    let tune = |more: &[&str]| place.tune(&[&["--device", "cpu", "--threads", "1"], more].concat());
    assert_eq!(tune(&["--check"]).status.code(), Some(1));
    let done = tune(&["--budget", "5"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(tune(&["--check"]).status.success() && place.check_whole() == 3);
    // All of them may be left to the estimate; made the fastest by hand, one is the plan's.
    let records = Records::open(&[place.records()]);
    let mut record = records.iter().next().expect("a record").clone();
    record.best.retain(|t| t.family == "product");
    record.write(&place.records()).expect("it is written");
    let model = wpk_build::Model::new(place.0.path().join("m.onnx")).records(place.records());
    let program = model.build().unwrap_or_else(|d| panic!("{d}")).program;
    let cpu = &program.cpus[0];
    assert!(cpu.threads == 1 && cpu.steps.iter().any(|s| s.schedule.to_string().starts_with("product cut=")), "{program}");
    // Another number of threads has records of its own.
    assert_eq!(place.tune(&["--device", "cpu", "--threads", "2", "--check"]).status.code(), Some(1));
}

#[test]
fn json_tells_what_text_tells() {
    let place = Place::new();
    let read = |output: &Output| serde_json::from_slice::<Value>(&output.stdout).expect("JSON");
    let missing = place.tune(&["--check", "--json"]);
    assert_eq!((missing.status.code(), read(&missing)["untuned"].as_array().map(Vec::len)), (Some(1), Some(5)));
    let done = read(&place.tune(&["--simulate", "0", "--json"]));
    assert_eq!((done["records"].as_u64(), done["untuned"].as_u64()), (Some(5), Some(0)));
    assert!(done["tuned_ns"].as_f64() <= done["heuristic_ns"].as_f64());
    let found = read(&place.tune(&["--check", "--json"]));
    assert_eq!(found["untuned"], serde_json::json!([]));
    // The plan decides: not everywhere does the schedule stand first that was fastest by itself.
    let records = Records::open(&[place.records()]);
    assert!(records.iter().any(|r| r.best.iter().any(|t| t.ns < r.best[0].ns)));
}

/// On the recorded landscapes both searches need at most half of random's measurements, and the estimate orders schedules well enough.
#[test]
fn searches_beat_chance_on_recorded_landscapes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/landscapes");
    for precision in ["fp16", "fp32"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-wpk"));
        command.arg("landscape").arg(folder.join(format!("{precision}.jsonl"))).args(["--precision", precision, "--seeds", "2"]);
        let output = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let number = |line: &str, before: &str| -> f64 {
            let line = text.lines().find(|l| l.trim_start().starts_with(line)).unwrap_or_else(|| panic!("no line {line:?} in {text}"));
            let digits = line.split(before).next().and_then(|l| l.rsplit(' ').next());
            digits.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no number before {before:?} in {line:?}"))
        };
        assert!(number("20 problems:", " problems") >= 20.0 && text.contains("median rank correlation"));
        let rank: f64 = text.lines().find_map(|l| l.split_once("median rank correlation ")?.1.parse().ok()).expect("a correlation");
        let (ga, rl) = (number("ga ", " of random's"), number("rl ", " of random's"));
        assert!(ga <= 0.5 && rl <= 0.5 && rank >= 0.6, "{precision}: ga {ga}, rl {rl}, rank {rank}");
    }
}
