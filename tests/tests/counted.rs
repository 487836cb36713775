//! Results with as many elements as the data say.

use wpk_build::onnx::parse;
use wpk_build::{Compiled, Model};
use wpk_rt::{Device, Weights};
use wpk_tests::text;

fn compile(model: &str) -> Result<Compiled, String> {
    Model::new("m.onnx").build_from(&parse(text::bytes(model)).expect("the model is read")).map_err(|d| d.to_string())
}

type Found = Vec<(Vec<usize>, Vec<f64>)>;

/// What exists of the results, with its extents: of a plan for the CPU, or of one for a GPU in the emulator.
fn run(model: &str, inputs: &[Vec<f32>], gpu: bool) -> Found {
    let source = parse(text::bytes(model)).expect("the model is read");
    let compiled = if gpu { Model::new("m.onnx").gpu("sm_80") } else { Model::new("m.onnx") };
    let compiled = compiled.build_from(&source).unwrap_or_else(|d| panic!("{d}\n{model}"));
    let plan = &compiled.program.buckets[0].1;
    let bytes: Vec<Vec<u8>> = inputs.iter().map(|x| x.iter().flat_map(|v| v.to_ne_bytes()).collect()).collect();
    let results = if gpu {
        wpk_tests::emulated::run(&compiled, &bytes).unwrap_or_else(|e| panic!("{e}\n{model}"))
    } else {
        let loaded = wpk_rt::Model::new(compiled.program.clone(), Weights::Owned(compiled.blob.to_bytes()), Device::Cpu).expect("it loads");
        let mut results: Vec<Vec<u8>> = plan.outputs.iter().map(|p| vec![0xff; p.bytes()]).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        loaded.run(0, &slices, &mut results.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).expect("it runs");
        results
    };
    let ports = plan.results().iter();
    let values = |(port, (shape, bytes)): (&wpk_plan::Port, (Vec<usize>, Vec<u8>))| {
        let tensor = wpk_kernels::Tensor::from_bytes(port.dtype, &bytes);
        (shape, (0..tensor.len()).map(|i| tensor.f(i)).collect())
    };
    ports.zip(plan.existing(&results, &[])).map(values).collect()
}

#[track_caller]
fn check(model: &str, inputs: &[&[f32]], expected: &[(&[usize], &[f64])]) {
    let inputs: Vec<Vec<f32>> = inputs.iter().map(|x| x.to_vec()).collect();
    let expected: Found = expected.iter().map(|(s, v)| (s.to_vec(), v.to_vec())).collect();
    assert_eq!(run(model, &inputs, false), expected, "{model}");
    // Nothing sorts on a GPU yet.
    if !model.contains("Unique") {
        assert_eq!(run(model, &inputs, true), expected, "in the emulator:\n{model}");
    }
}

#[test]
fn non_zero() {
    const MODEL: &str = "input x f32 2x3\ny = NonZero(x)\noutput y";
    check(MODEL, &[&[0.0, 1.0, 0.0, -2.0, 0.0, 3.0]], &[(&[2, 3], &[0.0, 1.0, 1.0, 1.0, 0.0, 2.0])]);
    check(MODEL, &[&[0.0; 6]], &[(&[2, 0], &[])]);
    check(MODEL, &[&[f32::NAN; 6]], &[(&[2, 6], &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 2.0, 0.0, 1.0, 2.0])]);
    // How many there are is a number like others, and a half of them too.
    const NUMBER: &str = "input x f32 2x3\nn = NonZero(x)\ns = Shape(n)\nconst one i64 - = 1\nc = Gather(s, one)\nconst two i64 - = 2\nh = Div(c, two)\nz = Size(n)\noutput s\noutput h\noutput z";
    check(NUMBER, &[&[0.0, 1.0, 0.0, -2.0, 0.0, 3.0]], &[(&[2], &[2.0, 3.0]), (&[], &[1.0]), (&[], &[6.0])]);
    // What follows sees only what exists: a sum over it, elements by it, its rows the other way round.
    const SUM: &str = "input x f32 5\nn = NonZero(x)\nt = Transpose(n)\nv = Gather(x, n)\ns = ReduceSum(v) keepdims=0\nm = ReduceMax(v) axes=[1]\noutput t\noutput s\noutput m";
    check(SUM, &[&[0.0, -4.0, 0.0, -2.0, 0.0]], &[(&[2, 1], &[1.0, 3.0]), (&[], &[-6.0]), (&[1, 1], &[-2.0])]);
}

#[test]
fn every_length_and_every_number_of_true_elements() {
    for n in [1usize, 2, 3, 7, 8, 9, 33] {
        for seed in 0..6 {
            let x: Vec<f32> = text::random(seed, n).iter().map(|&v| if v > seed as f64 / 3.0 - 1.0 { v as f32 } else { 0.0 }).collect();
            let expected: Vec<f64> = (0..n).filter(|&i| x[i] != 0.0).map(|i| i as f64).collect();
            let model = format!("input x f32 {n}\ny = NonZero(x)\noutput y");
            for gpu in [false, true] {
                assert_eq!(run(&model, std::slice::from_ref(&x), gpu), [(vec![1, expected.len()], expected.clone())], "{x:?}");
            }
        }
    }
}

#[test]
fn compress() {
    let x: Vec<f32> = (0..6).map(|i| i as f32).collect();
    let model = "input x f32 3x2\ninput c f32 3\nb = Cast(c) to=9\ny = Compress(x, b) axis=0\nz = Compress(x, b)\noutput y\noutput z";
    check(model, &[&x, &[0.0, 1.0, 1.0]], &[(&[2, 2], &[2.0, 3.0, 4.0, 5.0]), (&[2], &[1.0, 2.0])]);
    check(model, &[&x, &[0.0, 0.0, 0.0]], &[(&[0, 2], &[]), (&[0], &[])]);
}

#[test]
fn unique() {
    let x = [2.0, 1.0, 1.0, 3.0, 4.0, 3.0];
    let model = |sorted: u8| format!("input x f32 2x3\ny, f, i, c = Unique(x) sorted={sorted}\noutput y\noutput f\noutput i\noutput c");
    check(
        &model(1),
        &[&x],
        &[
            (&[4], &[1.0, 2.0, 3.0, 4.0]),
            (&[4], &[1.0, 0.0, 3.0, 4.0]),
            (&[6], &[1.0, 0.0, 0.0, 2.0, 3.0, 2.0]),
            (&[4], &[2.0, 1.0, 2.0, 1.0]),
        ],
    );
    check(
        &model(0),
        &[&x],
        &[
            (&[4], &[2.0, 1.0, 3.0, 4.0]),
            (&[4], &[0.0, 1.0, 3.0, 4.0]),
            (&[6], &[0.0, 1.0, 1.0, 2.0, 3.0, 2.0]),
            (&[4], &[1.0, 2.0, 2.0, 1.0]),
        ],
    );
    check(&model(0), &[&[5.0; 6]], &[(&[1], &[5.0]), (&[1], &[0.0]), (&[6], &[0.0; 6]), (&[1], &[6.0])]);
}

#[test]
fn overlapping_boxes() {
    let boxes = [
        [0.0, 0.0, 1.0, 1.0],
        [0.0, 0.1, 1.0, 1.1],
        [0.0, -0.1, 1.0, 0.9],
        [0.0, 10.0, 1.0, 11.0],
        [0.0, 10.1, 1.0, 11.1],
        [0.0, 100.0, 1.0, 101.0],
    ]
    .concat();
    let scores = [0.9, 0.75, 0.6, 0.95, 0.5, 0.3, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
    let model = |taken: i64, least: f64| {
        format!(
            "input boxes f32 1x6x4\ninput scores f32 1x2x6\nconst taken i64 1 = {taken}\nconst overlap f32 1 = 0.5\nconst least f32 1 = {least}\n\
             y = NonMaxSuppression(boxes, scores, taken, overlap, least)\noutput y"
        )
    };
    let expected = [[0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [0.0, 0.0, 5.0], [0.0, 1.0, 5.0], [0.0, 1.0, 4.0], [0.0, 1.0, 2.0]].concat();
    check(&model(6, 0.0), &[&boxes, &scores], &[(&[6, 3], &expected)]);
    check(&model(2, 0.55), &[&boxes, &scores], &[(&[3, 3], &[expected[..6].to_vec(), expected[9..12].to_vec()].concat())]);
    check(&model(2, 0.96), &[&boxes, &scores], &[(&[0, 3], &[])]);
}

#[test]
fn what_needs_the_number_at_build_time_is_refused() {
    let refused = |model: &str| compile(model).err().unwrap_or_else(|| panic!("compiled\n{model}"));
    let found = refused("input x f32 4\nn = NonZero(x)\ns = Flatten(n)\noutput s");
    assert!(
        found.contains("Flatten: its input has as many elements as the model's data say")
            && found.contains("do the rest in the application"),
        "{found}"
    );
    let found = refused(
        "input x f32 4\nn = NonZero(x)\nt = Transpose(n)\nconst s i64 1 = -1\nconst e i64 1 = 9\nconst a i64 1 = 0\ny = Slice(t, s, e, a)\noutput y",
    );
    assert!(found.contains("Slice: dimension 0 has as many elements as are known at run time only"), "{found}");
    let found = refused("input x f32 4\ninput z f32 4\nn = NonZero(x)\nm = NonZero(z)\ny = Add(n, m)\noutput y");
    assert!(found.contains("Add: dimension 1 has two numbers of elements"), "{found}");
}

#[test]
fn ports_that_nothing_counts_are_faults() {
    use wpk_plan::{Count, Plan, Role};
    let program = compile("input x f32 4\nn = NonZero(x)\noutput n").expect("it compiles").program;
    assert!(program.verify().is_empty());
    let told = |change: &dyn Fn(&mut Plan)| {
        let mut program = program.clone();
        change(&mut program.buckets[0].1);
        program.verify().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    for count in [Count::Dim(0), Count::Output(0), Count::Output(7)] {
        let found = told(&|p| p.outputs[0].bounds[0].terms[0].0 = count);
        assert!(found.contains("n has a bound that nothing counts"), "{count:?}: {found}");
    }
    assert!(told(&|p| p.outputs[0].bounds[0].axis = 2).contains("n has a bound that nothing counts"));
    assert!(told(&|p| p.outputs[1].role = Role::Size(0)).contains("n (count) is neither the model's nor a number of the runtime's"));
    assert!(told(&|p| p.inputs[0].role = Role::Size(0)).contains("x is neither the model's"));
}
