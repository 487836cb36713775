//! Operators of the user's: what they are told when something is missing, and the plans they get. `examples/custom` runs one.

use std::path::PathBuf;
use wpk_build::custom::{Custom, Signature};
use wpk_build::{Model, Precision};

fn model() -> Model {
    Model::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/custom/models/snake.onnx"))
}

fn snake() -> Custom {
    Custom::new("example", "Snake", |node| {
        let (dtype, shape) = node.input(0)?;
        Ok(Signature::new([(dtype, shape.to_vec())]).define("A", node.attributes.float("a").unwrap_or(1.0)).launch(2, 128))
    })
}

/// What the build says, in one line.
#[track_caller]
fn refused(model: &Model, parts: &[&str]) {
    let Err(diags) = model.build() else { panic!("it compiles") };
    let text = diags.to_string();
    assert!(parts.iter().all(|p| text.contains(p)), "{text}");
}

#[test]
fn what_is_missing_is_named_with_the_node() {
    refused(&model(), &["operator example::Snake is not supported", "snake"]);
    let wrong = Custom::new("example", "Snake", |node| node.input(1).map(|_| Signature::default()));
    refused(&model().custom(wrong), &["Snake: input 1 is missing", "\"snake\""]);
    refused(&model().custom(Custom::new("example", "Snake", |_| Ok(Signature::default()))), &["its signature has no results"]);
    refused(&model().custom(snake().c("no/such/file.c")), &["no/such/file.c"]);
    let compiled = model().custom(snake()).gpu("sm_80").build().expect("the CPU needs no source before it is linked");
    let (arch, steps) = &compiled.refused[0];
    assert_eq!(*arch, "sm_80");
    assert!(steps[0].contains("example::Snake has no source for GPUs: give it with `.cuda` or `.ptx`"), "{steps:?}");
}

#[test]
fn a_kernel_of_the_users_is_a_step_like_any_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let ptx = folder.path().join("snake.ptx");
    std::fs::write(&ptx, ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry snake(.param .u64 x, .param .u64 y) { ret; }\n")
        .expect("written");
    let compiled = model().custom(snake().ptx(&ptx)).gpu("sm_80").precision(Precision::Fp16).build().expect("it compiles");
    let gpu = &compiled.program.gpus[0];
    assert!(gpu.modules.iter().any(|m| m.entry == "snake" && (m.blocks, m.threads) == (2, 128)));
    // In a plan of half types its operands keep the types that it was made for.
    let text = compiled.program.to_string();
    assert!(text.contains("custom example::Snake f32[8, 32] -> f32[8, 32]"), "{text}");
    assert!(compiled.files.contains(&ptx), "a change of its source is a change of the model");
}

#[test]
fn a_plan_without_its_function_is_refused() {
    let compiled = model().custom(snake()).build().expect("it compiles");
    let loaded = wpk_rt::Model::new(compiled.program.clone(), wpk_rt::Weights::Owned(compiled.blob.to_bytes()), wpk_rt::Device::Cpu);
    let Err(error) = loaded else { panic!("it runs") };
    let text = error.to_string();
    assert!(text.contains("snake") && text.contains("no function wpk_custom_"), "{text}");
}
