//! Errors are product text: what is wrong, where, and what to do.

use bytes::Bytes;
use wpk_build::onnx::parse;
use wpk_build::{Model, onnx};
use wpk_tests::text;

/// Compiles a model and compares the message.
#[track_caller]
fn check(model: &str, expected: &str) {
    let source = parse(text::bytes(model)).expect("the model is read");
    let Err(diags) = Model::new("m.onnx").build_from(&source) else { panic!("the model was compiled") };
    assert_eq!(diags.to_string().trim(), expected.trim_start_matches('\n').trim_end(), "\nfound:\n{diags}");
}

/// Reads bytes and compares the first line of the message and the help.
#[track_caller]
fn check_file(bytes: &[u8], message: &str, help: &str) {
    let Err(diag) = parse(Bytes::copy_from_slice(bytes)) else { panic!("the file was read") };
    assert_eq!((diag.message.as_str(), diag.help.as_deref()), (message, Some(help)));
}

#[test]
fn all_unsupported_operators_are_reported_together() {
    check(
        "input x f32 4
         a = Foo(x)
         b = Bar(a)
         c = Foo(b)
         y = Add(c, x)
         output y",
        "
operator Bar is not supported
  nodes Bar#1 (opset 17)
operator Foo is not supported
  nodes Foo#0, Foo#2 (opset 17)",
    );
}

#[test]
fn a_refused_node_names_its_inputs_and_their_origin() {
    check(
        "input x f32 1x2x4x4
         a = Relu(x)
         const s f32 4 = 1 1 2 2
         y = Resize(a,,s) coordinate_transformation_mode=\"sideways\"
         output y",
        "
Resize: coordinate_transformation_mode=sideways is not supported
  node  #1 \"\" (opset 17)
  input 0: f32[1, 2, 4, 4] \"a\" from Relu#0
  input 2: f32[4] constant \"s\"",
    );
}

#[test]
fn a_shape_from_run_time_data_says_what_to_do() {
    check(
        "input x f32 4
         input s i64 2
         y = Reshape(x, s)
         output y",
        "
Reshape: shape (input 1) is computed at run time
  node  #0 \"\" (opset 17)
  input 0: f32[4] \"x\"
  input 1: i64[2] \"s\"
  help  shapes are fixed at build time: make shape a constant, or bind the input it depends on",
    );
}

#[test]
fn shapes_that_do_not_fit_are_told_with_the_node() {
    check(
        "input x f32 2x3
         input y f32 4x5
         z = MatMul(x, y)
         output z",
        "
MatMul: shapes [2, 3] and [4, 5] do not match
  node  #0 \"\" (opset 17)
  input 0: f32[2, 3] \"x\"
  input 1: f32[4, 5] \"y\"",
    );
}

#[test]
fn a_symbolic_dimension_asks_for_its_value() {
    check(
        "input x f32 batchx4
         y = Relu(x)
         output y",
        "
input \"x\": dimension 0 is the symbol \"batch\"
  help  give its value: `dims = { batch: [1] }` or `.dim(\"batch\", [1])`",
    );
}

#[test]
fn cycles_and_dangling_names_are_found() {
    check(
        "input x f32 4
         a = Add(x, b)
         b = Relu(a)
         output b
         output nowhere",
        "
Add: input \"b\" is not defined before it
  node  #0 \"\" (opset 17)
  input 0: f32[4] \"x\"
  help  the graph has a cycle or lost a node: export the model again
output \"nowhere\" is not defined by any node
  help  the file is damaged: export the model again",
    );
}

#[test]
fn foreign_files_are_told_apart() {
    check_file(b"", "the model file is empty", "the export or the download was interrupted: write the file again");
    check_file(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
        "the model file is a Git LFS pointer, not the model",
        "run `git lfs pull` to fetch it",
    );
    check_file(b"PK\x03\x04rest", "the file is not an ONNX model but a zip archive (a PyTorch checkpoint?)", "export the model to ONNX");
    check_file(b"<html>", "the file is not an ONNX model but text", "export the model to ONNX");
    let whole = text::bytes("input x f32 4\ny = Relu(x)\noutput y");
    let Err(diag) = parse(whole.slice(..whole.len() - 3)) else { panic!("a truncated file was read") };
    assert!(diag.message.starts_with("the file is not a whole ONNX model"), "{diag}");
    let Err(diag) = parse(Bytes::from_static(&[0x08, 0x07])) else { panic!("a file without a graph was read") };
    assert_eq!(diag.message, "the file holds no ONNX graph");
}

/// A model whose only weight lies at `location`.
fn external(location: &str, offset: &str) -> wpk_build::onnx::proto::Model {
    let mut model = text::model("input x f32 4\nconst w f32 4 = 1 2 3 4\ny = Add(x, w)\noutput y");
    let weight = &mut model.graph.as_mut().expect("a graph").initializer[0];
    weight.float_data.clear();
    weight.data_location = 1;
    let entry = |key: &str, value: &str| onnx::proto::Entry { key: key.to_owned(), value: value.to_owned() };
    weight.external_data = vec![entry("location", location), entry("offset", offset), entry("length", "16")];
    model
}

#[test]
fn external_data_stays_in_the_models_folder() {
    use prost::Message;
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("model");
    std::fs::create_dir(&inner).expect("a folder");
    let bytes: Vec<u8> = [0f32, 1.0, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(folder.path().join("outside"), &bytes).expect("a file");
    std::fs::write(inner.join("inside"), &bytes).expect("a file");
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path().join("outside"), inner.join("link")).expect("a link");
    let build = |location: &str, offset: &str| {
        let path = inner.join("m.onnx");
        std::fs::write(&path, external(location, offset).encode_to_vec()).expect("a file");
        Model::new(&path).build().map(drop).map_err(|d| d.to_string())
    };
    assert_eq!(build("inside", "4"), Ok(()));
    for (location, offset, expected) in [
        ("../outside", "0", "is not allowed"),
        ("/etc/passwd", "0", "is not allowed"),
        ("..\\outside", "0", "is not allowed"),
        ("", "0", "is not allowed"),
        ("inside", "8", "holds 20 bytes, 16 at 8 are wanted"),
        ("inside", "18446744073709551615", "16 at 18446744073709551615 are wanted"),
        ("missing", "0", "No such file"),
        #[cfg(unix)]
        ("link", "0", "is a link out of the model's folder"),
    ] {
        let found = build(location, offset).expect_err(location);
        assert!(found.contains(expected), "{location}: {found}");
    }
}

#[test]
fn parts_of_any_size_are_added_up() {
    check(
        "input x f32 4
         const n i64 3 = 9223372036854775807 9223372036854775807 9223372036854775807
         a, b, y = Split(x, n)
         output y",
        "
Split: parts [9223372036854775807, 9223372036854775807, 9223372036854775807] do not make up 4 for 3 outputs
  node  #0 \"\" (opset 17)
  input 0: f32[4] \"x\"
  input 1: i64[3] constant \"n\"",
    );
}
