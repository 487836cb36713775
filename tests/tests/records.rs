//! Tuning records: written, read, used in builds, and not used where they do not serve.

use std::path::Path;
use wpk_build::hash;
use wpk_build::onnx::parse;
use wpk_build::records::{Key, Record, Records};
use wpk_build::{Compiled, Model, Precision};
use wpk_kernels::family::spaces;
use wpk_tests::text;

const MODEL: &str = "input x f32 4x64\nconst w f32 64x96 random\ny = MatMul(x, w)\noutput y";

fn compile(records: &Path) -> Compiled {
    let source = parse(text::bytes(MODEL)).expect("the model is read");
    let model = Model::new("m.onnx").gpu("sm_80").precision(Precision::Fp16).records(records);
    model.build_from(&source).unwrap_or_else(|d| panic!("{d}"))
}

/// A record of the product with another schedule than the estimate's choice.
fn record(compiled: &Compiled) -> Record {
    let is_product = |u: &&wpk_build::Untuned| u.1.0.family() == "contraction";
    let (arch, (problem, layout, _)) = compiled.untuned.iter().find(is_product).expect("an untuned product");
    let all = spaces(problem, *layout, arch);
    let mut candidates = all[0].all();
    candidates.sort_by(|a, b| b.cost.total_cmp(&a.cost));
    let best: Vec<(Vec<u32>, f64)> = candidates.iter().take(20).map(|c| (c.values.clone(), 1234.0)).collect();
    let key = Key::new(problem, *layout, arch);
    let mut record = Record::new(&key, problem, ("Test GPU 1", arch), all[0].family, all[0].params, &best);
    let made = all[0].generate(&best[0].0).expect("a kernel");
    record.ptx = hash::hex(made.kernel.text(arch).as_bytes());
    record.search = ("ga".to_owned(), 64);
    record
}

/// Why the product's kernel is what it is.
fn why(compiled: &Compiled) -> String {
    let steps = compiled.program.gpus[0].plans[0].body.steps();
    steps.into_iter().find(|s| s.kernel.problem().family() == "contraction").map(|s| s.why.clone()).unwrap_or_default()
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
    assert_eq!(reason(&|r| r.family = "gone".to_owned()), "there is no family gone");
    assert_eq!(reason(&|r| r.best[0].0.clear()), "its schedule has other parameters");
    let illegal = reason(&|r| r.best[0].0.values_mut().for_each(|v| *v = 3));
    assert!(illegal.contains("is not legal"), "{illegal}");
}

#[test]
fn half_written_and_foreign_files_do_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = record(&compile(folder.path()));
    let path = record.write(folder.path()).expect("it is written");
    let text = record.text();
    for cut in (0..text.len()).step_by(97) {
        std::fs::write(path.with_file_name("mma-cut.json"), &text[..cut]).expect("it is written");
        std::fs::write(path.with_file_name(".1234-mma.json"), &text[..cut]).expect("it is written");
        let records = Records::open(&[folder.path().to_owned()]);
        assert_eq!((records.iter().count(), records.unread.len()), (1, 1));
    }
    // Of two records of one problem the faster serves.
    let mut slower = record.clone();
    slower.device = "Another".to_owned();
    slower.best[0].1 *= 2.0;
    slower.write(folder.path()).expect("it is written");
    assert_eq!(Records::open(&[folder.path().to_owned()]).iter().map(|r| r.device.clone()).collect::<Vec<_>>(), ["Test GPU 1"]);
}
