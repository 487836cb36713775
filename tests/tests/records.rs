//! Tuning records: written, read, used in builds, and not used where they do not serve.

use std::path::Path;
use wpk_build::onnx::parse;
use wpk_build::records::{Key, PlanFile, Record, Records, Timed};
use wpk_build::{Compiled, Model, Precision};
use wpk_kernels::family::spaces;
use wpk_tests::text;

const MODEL: &str = "input x f32 4x64\nconst w f32 64x96 random\ny = MatMul(x, w)\noutput y";

fn compile(records: &Path) -> Compiled {
    let source = parse(text::bytes(MODEL)).expect("the model is read");
    let model = Model::new("m.onnx").gpu("sm_80").precision(Precision::Fp16).records(records);
    model.build_from(&source).unwrap_or_else(|d| panic!("{d}"))
}

/// The untuned product of a model.
fn product(compiled: &Compiled) -> &wpk_build::Untuned {
    compiled.untuned.iter().find(|u| u.1.0.family() == "contraction").expect("an untuned product")
}

/// A record of the product with another schedule than the estimate's choice, and what is said beside it.
fn record_with(compiled: &Compiled, more: Vec<Timed>) -> Record {
    let (arch, (problem, layout, _)) = product(compiled);
    let all = spaces(problem, *layout, arch);
    let mut candidates = all[0].all();
    candidates.sort_by(|a, b| b.cost.total_cmp(&a.cost));
    let timed = (0..).zip(&candidates).map(|(i, c)| Timed::schedule(all[0].family, all[0].params, &c.values, f64::from(1234 + i)));
    let measured = timed.take(20).chain(more).collect();
    let mut record =
        Record::new(&Key::new(problem, *layout, arch), problem, ("Test GPU 1", arch.target), measured, None).expect("a schedule");
    record.seal(problem, *layout, arch).expect("a kernel");
    record.search = ("ga".to_owned(), 64);
    record
}

fn record(compiled: &Compiled) -> Record {
    record_with(compiled, vec![])
}

/// Why the product's kernel is what it is.
fn why(compiled: &Compiled) -> String {
    let steps = compiled.program.gpus[0].plans[0].body.steps();
    steps.into_iter().find(|s| s.kernel.problem().family() == "contraction").map(|s| s.why.clone()).unwrap_or_default()
}

#[test]
fn the_estimates_choice_stays_among_the_eight() {
    let folder = tempfile::tempdir().expect("a folder");
    let compiled = compile(folder.path());
    let (arch, (problem, layout, _)) = product(&compiled);
    let timed = |i: u32| Timed::schedule("mma", &[], &[], f64::from(100 + i));
    let named = |i: u32| Timed { schedule: [("bm".to_owned(), i64::from(i))].into(), ..timed(i) };
    let all: Vec<Timed> = (0..20).map(named).collect();
    let kept = |estimated: Option<Timed>| {
        let key = Key::new(problem, *layout, arch);
        let record = Record::new(&key, problem, ("Test GPU 1", arch.target), all.clone(), estimated).expect("a schedule");
        record.best.iter().map(|t| t.schedule["bm"]).collect::<Vec<_>>()
    };
    assert_eq!(kept(None), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(kept(Some(named(13))), [0, 1, 2, 3, 4, 5, 6, 13]);
    assert_eq!(kept(Some(named(3))), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = record(&compile(folder.path()));
    let path = record.write(folder.path()).expect("it is written");
    assert!(path.starts_with(folder.path().join("test-gpu-1")), "{}", path.display());
    let text = std::fs::read_to_string(&path).expect("it is read");
    assert_eq!((Record::parse(&text).as_ref(), record.best.len()), (Ok(&record), 8));
    assert_eq!(record.text(), text);
}

#[test]
fn builds_use_records_that_serve() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = compile(folder.path());
    assert!(why(&before).ends_with("us estimated)"), "{}", why(&before));
    let record = record(&before);
    record.write(folder.path()).expect("it is written");
    let after = compile(folder.path());
    assert!(why(&after).ends_with("(tuned on Test GPU 1: 1.23 us, ga of 64)"), "{}", why(&after));
    assert!(after.untuned.len() < before.untuned.len());
    // The same records, the same bytes.
    assert_eq!(compile(folder.path()).program.to_bytes(), after.program.to_bytes());
}

#[test]
fn cubins_go_with_the_record_of_their_text() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mut record = record(&compile(folder.path()));
    let cubin = wpk_plan::Cubin { capability: 90, image: wpk_plan::Bytes(vec![1, 2, 3]) };
    record.write(folder.path()).expect("it is written");
    record.write_cubin(folder.path(), &cubin).expect("it is written");
    let cubins = |folder: &Path| compile(folder).program.gpus[0].modules.iter().flat_map(|m| m.cubins.clone()).collect::<Vec<_>>();
    assert_eq!(cubins(folder.path()), std::slice::from_ref(&cubin));
    // A copy of the record takes them along; another text has none.
    let read = Records::open(&[folder.path().to_owned()]);
    read.iter().for_each(|r| drop(r.write(other.path()).expect("it is written")));
    assert_eq!(cubins(other.path()), std::slice::from_ref(&cubin));
    record.ptx = "0".repeat(16);
    record.write(other.path()).expect("it is written");
    assert_eq!(cubins(other.path()), []);
}

#[test]
fn what_does_not_serve_is_a_miss_with_a_reason() {
    let reason = |change: &dyn Fn(&mut Record)| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut record = record(&compile(folder.path()));
        change(&mut record);
        record.write(folder.path()).expect("it is written");
        let compiled = compile(folder.path());
        assert!(why(&compiled).ends_with("us estimated)"), "{}", why(&compiled));
        let untuned = compiled.untuned.iter().find(|u| u.1.0.family() == "contraction").expect("an untuned product");
        untuned.1.2.clone()
    };
    assert_eq!(reason(&|r| r.ptx = "0".to_owned()), "another version of the generator made it");
    assert_eq!(reason(&|r| r.best[0].family = "gone".to_owned()), "there is no family gone");
    assert_eq!(reason(&|r| r.best[0].schedule.clear()), "its schedule has other parameters");
    let unsearched = reason(&|r| r.families = ["simt".to_owned()].into());
    assert_eq!(unsearched, "its search did not know the family mma, which estimates prefer");
    let illegal = reason(&|r| r.best[0].schedule.values_mut().for_each(|v| *v = 3));
    assert!(illegal.contains("is not legal"), "{illegal}");
}

#[test]
fn half_written_and_foreign_files_do_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = record(&compile(folder.path()));
    let path = record.write(folder.path()).expect("it is written");
    let text = record.text();
    // Without the last line's end it would still be whole.
    for cut in (0..text.len() - 1).step_by(97) {
        std::fs::write(path.with_file_name("mma-cut.json"), &text[..cut]).expect("it is written");
        std::fs::write(path.with_file_name(".1234-mma.json"), &text[..cut]).expect("it is written");
        let records = Records::open(&[folder.path().to_owned()]);
        assert_eq!((records.iter().count(), records.unread.len()), (1, 1));
    }
    // Of two records of one problem the faster serves.
    let mut slower = record.clone();
    slower.device = "Another".to_owned();
    slower.best[0].ns *= 2.0;
    slower.write(folder.path()).expect("it is written");
    assert_eq!(Records::open(&[folder.path().to_owned()]).iter().map(|r| r.device.clone()).collect::<Vec<_>>(), ["Test GPU 1"]);
}

/// A call of a library that was the fastest.
fn call() -> Timed {
    let knobs = [("engine", 66), ("version", 130_100), ("workspace", 4096), ("knob 01", 12), ("knob 06", 35)];
    Timed { family: "cublaslt".to_owned(), schedule: knobs.map(|(k, v)| (k.to_owned(), v)).into(), ns: 700.0 }
}

#[test]
fn a_call_that_was_faster_stands_before_the_kernel() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = compile(folder.path());
    record_with(&before, vec![call()]).write(folder.path()).expect("it is written");
    let after = compile(folder.path());
    assert!(why(&after).ends_with("(tuned on Test GPU 1: 0.70 us by cublaslt engine 66, ga of 64)"), "{}", why(&after));
    let modules = &after.program.gpus[0].modules;
    let called: Vec<_> = modules.iter().filter_map(|m| m.call.as_ref()).collect();
    assert_eq!(
        called.iter().map(|c| (c.engine, c.version, c.workspace, c.knobs.clone())).collect::<Vec<_>>(),
        [(66, 130_100, 4096, vec![(1, 12), (6, 35)])]
    );
    // It carries a kernel for where the library is not, and room for both.
    let module = modules.iter().find(|m| m.call.is_some()).expect("a module");
    assert!(module.text.contains(".entry") && !module.overlaps);
    let steps = after.program.gpus[0].plans[0].body.steps();
    let step = steps.iter().find(|s| s.workspace(module).is_some()).expect("a step with a workspace");
    assert_eq!((step.args.len() - step.arguments(module).len(), after.program.verify()), (1, vec![]));
    let never = Model::new("m.onnx").gpu("sm_80").precision(Precision::Fp16).records(folder.path()).libraries(false);
    let never = never.build_from(&parse(text::bytes(MODEL)).expect("the model is read")).unwrap_or_else(|d| panic!("{d}"));
    assert!(never.program.gpus[0].modules.iter().all(|m| m.call.is_none()));
}

#[test]
fn a_problem_without_a_record_takes_the_schedule_of_one_like_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = compile(folder.path());
    // The estimate's own choice for one problem is legal, and as good, for another of nearly the same extents.
    let (arch, (problem, layout, _)) = product(&before);
    let all = spaces(problem, *layout, arch);
    let best = all.iter().flat_map(|s| s.all()).min_by(|a, b| a.cost.total_cmp(&b.cost)).expect("a schedule");
    let space = all.iter().find(|s| s.family == best.family).expect("its family");
    let timed = Timed::schedule(best.family, space.params, &best.values, 1000.0);
    let mut record =
        Record::new(&Key::new(problem, *layout, arch), problem, ("Test GPU 1", arch.target), vec![timed], None).expect("a schedule");
    record.seal(problem, *layout, arch).expect("a kernel");
    record.write(folder.path()).expect("it is written");
    let like = text::bytes(&MODEL.replace("4x64", "6x64"));
    let model = Model::new("m.onnx").gpu("sm_80").precision(Precision::Fp16).records(folder.path());
    let after = model.build_from(&parse(like).expect("the model is read")).unwrap_or_else(|d| panic!("{d}"));
    assert!(why(&after).ends_with("us estimated, as contraction [4, 96] over [64] on Test GPU 1)"), "{}", why(&after));
    assert_eq!(product(&after).1.2, "there is no record");
}

/// Times are measured for one cover's problems and estimated for another's: the two do not compare.
#[test]
fn records_alone_choose_no_cover() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = compile(folder.path());
    let mut slow = record(&before);
    slow.best.iter_mut().for_each(|t| t.ns *= 1000.0);
    slow.write(folder.path()).expect("it is written");
    assert_eq!(compile(folder.path()).choices[1], before.choices[1]);
}

#[test]
fn a_plan_file_chooses_the_cover() {
    let folder = tempfile::tempdir().expect("a folder");
    let records = folder.path().join("tune");
    std::fs::create_dir_all(&records).expect("a folder");
    let before = compile(&records);
    let chosen = |c: &Compiled| c.choices[1].iter().find(|c| c.chosen).map(|c| c.name);
    let other = "bias, residual and activation beside the product";
    let name = before.plan_names.first().expect("a name");
    assert!(name.starts_with("m-") && name.ends_with("-fp16-static.json"), "{name}");
    let file =
        |cover: &str| PlanFile { device: "Test GPU 1".to_owned(), cover: cover.to_owned(), records: vec![], ns: 1.0, heuristic: 2.0 };
    file(other).write(&records, name).expect("it is written");
    assert_eq!((chosen(&before) == Some(other), chosen(&compile(&records))), (false, Some(other)));
    // A cover of another version chooses nothing.
    file("gone").write(&records, name).expect("it is written");
    assert_eq!(chosen(&compile(&records)), chosen(&before));
}

/// Records would all be misses if the numbers that keys hold changed their meaning.
#[test]
fn layouts_keep_their_numbers_in_keys() {
    use wpk_plan::{Codec, WeightLayout};
    let number = |layout: WeightLayout| {
        let mut bytes = vec![];
        layout.encode(&mut bytes);
        bytes
    };
    let known = [WeightLayout::Dense, WeightLayout::Panels16, WeightLayout::Pairs16, WeightLayout::Quads16, WeightLayout::Columns];
    assert_eq!(known.map(number), [[0], [1], [2], [3], [4]]);
}
