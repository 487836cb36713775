//! Plans: their text, their encoding, their memory, their verifier.

use std::path::Path;
use wpk_build::onnx::parse;
use wpk_build::{Compiled, Model, Precision};
use wpk_plan::{EdgeKind, Place, Program};
use wpk_tests::text;

fn compile(model: &str) -> Compiled {
    let source = parse(text::bytes(model)).expect("the model is read");
    Model::new("m.onnx").build_from(&source).unwrap_or_else(|d| panic!("{d}"))
}

const BLOCK: &str = "input x f32 1x8x6x6
     const w f32 8x8x3x3 random
     const b f32 8 random
     const v f32 16x8x1x1 random
     a = Conv(x, w, b) pads=[1,1,1,1]
     r = Relu(a)
     s = Add(r, x)
     c = Conv(s, v)
     p = GlobalAveragePool(c)
     y = Flatten(p)
     output y";

#[test]
fn the_text_of_a_plan() {
    let found = compile(BLOCK).program.to_string();
    let expected = "\
model M
  weight0: f32 dense [1, 1, 1, 8] at 0, 32 bytes
  weight1: f32 panels16 [1152] at 64, 4608 bytes
  weight2: f32 panels16 [128] at 4672, 512 bytes
plan for cpu
  input0 x: f32[1, 8, 6, 6]
  output0 y: f32[1, 16]
  arena 3456 bytes
  0: arena+2304:f32 = contraction [1, 6, 6, 8] over [8, 3, 3](input0:f32, weight1:f32, weight0:f32, input0:f32) [weights in panels]  ; Conv#0 + Relu#1 + Add#2
  1: arena+0:f32 = contraction [1, 6, 6, 16] over [8, 1, 1](arena+2304:f32, weight2:f32) after 0 [weights in panels]  ; Conv#3
  2: output0:f32 = reduce mean [1, 6, 6, 16] -> [1, 1, 1, 16](arena+0:f32) after 1  ; GlobalAveragePool#4
";
    assert_eq!(found, expected, "\nfound:\n{found}");
}

/// An inverted residual of such extents, and the mean of one of its results.
fn inverted_residual(extent: usize, result: &str) -> String {
    format!(
        "input x f32 1x8x{extent}x{extent}
         const u f32 64x8x1x1 random
         const v f32 64x1x3x3 random
         const w f32 8x64x1x1 random
         a = Conv(x, u)
         r = Relu(a)
         b = Conv(r, v) group=64 pads=[1,1,1,1]
         c = Conv(b, w)
         s = Add(c, x)
         p = GlobalAveragePool({result})
         y = Flatten(p)
         output s
         output y"
    )
}

/// Products around a depthwise convolution are one step where what lies between is large and nothing else reads it.
#[test]
fn inverted_residuals_are_chains() {
    let families = |extent: usize, result: &str| {
        let compiled = compile(&inverted_residual(extent, result));
        compiled.program.buckets[0].1.body.steps().iter().map(|s| s.kernel.problem().family()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(families(48, "s"), "chain reduce move");
    assert_eq!(families(48, "b"), "chain contraction reduce move", "read by others");
    assert_eq!(families(32, "s"), "contraction contraction contraction reduce move", "small");
}

/// Around depthwise convolutions, pixels of 512 channels lie a line further apart than they are long, in products those of 480 and 512 as long as they are.
#[test]
fn pixels_lie_apart_where_windows_would_meet_in_a_cache() {
    let bytes = |channels: usize, groups: usize| {
        let model = format!(
            "input x f32 1x8x6x6
             const u f32 {channels}x8x1x1 random
             const v f32 {channels}x{}x3x3 random
             const w f32 8x{channels}x1x1 random
             a = Conv(x, u)
             b = Conv(a, v) group={groups} pads=[1,1,1,1]
             y = Conv(b, w)
             output y",
            channels / groups
        );
        let compiled = compile(&model);
        let steps = compiled.program.buckets[0].1.body.steps();
        steps[..2].iter().map(|s| s.args.last().map_or(0, |a| a.bytes)).collect::<Vec<_>>()
    };
    assert_eq!(bytes(512, 512), [4 * (36 * 528 - 16); 2]);
    assert_eq!(bytes(480, 480), [4 * 36 * 480; 2]);
    assert_eq!(bytes(512, 1), [4 * 36 * 512; 2]);
}

/// Bytes that steps read and write at least: what is broadcast counts once, and of a table what is found in it.
#[test]
fn bytes_of_steps() {
    let bytes = |model: &str| {
        let compiled = compile(model);
        compiled.program.buckets[0].1.body.steps().iter().map(|s| s.kernel.problem().bytes()).collect::<Vec<_>>()
    };
    // Images, weights, a bias and a residual; results by the same images again.
    assert_eq!(bytes(BLOCK), [1152 + 2304 + 32 + 1152 + 1152, 1152 + 512 + 2304, 2304 + 64]);
    assert_eq!(bytes("input i i64 3\nconst table f32 1000x4 random\ny = Gather(table, i)\noutput y"), [48 + 24 + 48]);
}

/// The names of the covers considered, the chosen one first.
fn covers(model: &str) -> Vec<&'static str> {
    let [mut choices, _] = compile(model).choices;
    choices.sort_by_key(|c| !c.chosen);
    choices.iter().map(|c| c.name).collect()
}

#[test]
fn the_plan_chooses_among_covers() {
    let (last, second, beside) = ("fused, channels last", "fused, channels second", "bias, residual and activation beside the product");
    assert_eq!(covers(BLOCK), [last, second, beside]);
    // Nothing to choose without products.
    assert_eq!(covers("input x f32 4\ny = Exp(x)\noutput y"), [last]);
    // A lone pointwise convolution of one pixel is cheaper without the transposes around it.
    assert_eq!(covers("input x f32 1x64x1x1\nconst w f32 8x64x1x1 random\ny = Conv(x, w)\noutput y")[0], last);
}

#[test]
fn a_plan_survives_its_encoding() {
    for model in [BLOCK, "input x f16 4\ny = Exp(x)\noutput y", "input x f32 3x4\nv, i = TopK(x, k)\noutput v\noutput i\nconst k i64 1 = 2"]
    {
        let program = compile(model).program;
        let bytes = program.to_bytes();
        assert_eq!(Program::from_bytes(&bytes).expect("it decodes"), program);
        for n in 0..bytes.len() {
            assert!(Program::from_bytes(&bytes[..n]).is_err(), "{n} bytes of {} decode", bytes.len());
        }
    }
}

#[test]
fn an_older_plan_is_refused_by_version() {
    let mut bytes = compile(BLOCK).program.to_bytes();
    bytes[4] += 1;
    let message = Program::from_bytes(&bytes).expect_err("another version").to_string();
    let (found, known) = (wpk_plan::VERSION + 1, wpk_plan::VERSION);
    assert_eq!(message, format!("the plan has version {found}, this runtime reads {known}: build with matching wpk crates"));
}

#[test]
fn the_plan_in_generated_rust_is_the_plan_in_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let model =
        Model::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits/models/digits.onnx")).name("Digits").dim("batch", [1, 8]);
    let report = model.clone().out_dir(folder.path()).compile().unwrap_or_else(|d| panic!("{d}"));
    let rust = std::fs::read_to_string(&report.rust).expect("generated Rust");
    let name = rust
        .split("include_bytes ! (concat ! (env ! (\"OUT_DIR\") , \"/\" , \"")
        .nth(1)
        .and_then(|s| s.split('"').next())
        .expect("the plan's file in the generated Rust");
    let bytes = std::fs::read(folder.path().join(name)).expect("the plan's file");
    assert_eq!(Program::from_bytes(&bytes).expect("it decodes"), model.build().unwrap_or_else(|d| panic!("{d}")).program);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits/models/digits.onnx");
    let build = || {
        let folder = tempfile::tempdir().expect("a folder");
        let copy = folder.path().join("digits.onnx");
        std::fs::copy(&model, &copy).expect("a copy");
        let out = folder.path().join("out");
        Model::new(copy).dim("batch", [1, 4]).out_dir(&out).compile().unwrap_or_else(|d| panic!("{d}"));
        let mut files: Vec<_> =
            std::fs::read_dir(out).expect("files").flatten().map(|e| (e.file_name(), std::fs::read(e.path()).expect("a file"))).collect();
        files.sort();
        files
    };
    let (a, b) = (build(), build());
    assert_eq!(a.len(), 4, "Rust, plan, its text and weights");
    assert!(a == b, "two builds differ");
}

/// A given image of many channels is copied once instead of gathered by every window; one of few is read as it lies.
#[test]
fn images_of_many_channels_are_copied_for_windows() {
    for (channels, copies) in [(3, 0), (15, 0), (16, 1), (64, 1)] {
        let model = format!(
            "input x f32 1x{channels}x28x28\nconst w f32 64x{channels}x3x3 random\nc = Conv(x, w)\ny = GlobalAveragePool(c)\noutput y"
        );
        let found = compile(&model).program.to_string();
        assert_eq!(found.matches("its reader takes no such strides").count(), copies, "{channels} channels:\n{found}");
    }
}

#[test]
fn a_result_that_is_only_concatenated_is_written_in_place() {
    let program = compile(
        "input x f32 1x8x4x4
         const w f32 16x8x1x1 random
         const v f32 16x8x3x3 random
         a = Conv(x, w)
         b = Conv(x, v) pads=[1,1,1,1]
         c = Concat(a, b) axis=1
         y = GlobalAveragePool(c)
         output y",
    )
    .program;
    let kinds: Vec<&str> = program.buckets[0].1.body.steps().iter().map(|s| s.kernel.problem().family()).collect();
    assert_eq!(kinds, ["contraction", "contraction", "reduce"]);
}

#[test]
fn intermediates_share_memory_only_in_order() {
    // Along a chain every second buffer is shared. Two independent chains may run at the same time on a GPU, so they cannot share; a processor runs
    // one after the other.
    let chain = |name: &str, from: &str| {
        (0..6)
            .map(|i| {
                let input = if i == 0 { from.to_owned() } else { format!("{name}{}", i - 1) };
                format!("{name}{i} = Softmax({input})\n")
            })
            .collect::<String>()
    };
    let one = format!("input x f32 64x64\n{}output a5", chain("a", "x"));
    let two = format!("input x f32 64x64\ninput z f32 64x64\n{}{}output a5\noutput b5", chain("a", "x"), chain("b", "z"));
    for (model, on_cpu, on_gpu) in [(one, 2, 2), (two, 2, 4)] {
        let source = parse(text::bytes(&model)).expect("the model is read");
        let program = Model::new("m.onnx").gpu("sm_80").build_from(&source).unwrap_or_else(|d| panic!("{d}")).program;
        let buffers = [program.buckets[0].1.arena, program.gpus[0].plans[0].arena].map(|bytes| bytes / (64 * 64 * 4));
        assert_eq!(buffers, [on_cpu, on_gpu], "{model}");
    }
}

#[test]
fn the_verifier_finds_what_would_be_unsafe() {
    let check_of = |model: &str, spoil: &dyn Fn(&mut Program), expected: &str| {
        let mut program = compile(model).program;
        spoil(&mut program);
        let faults: Vec<String> = program.verify().iter().map(ToString::to_string).collect();
        assert!(faults.iter().any(|f| f.contains(expected)), "{expected}: {faults:?}");
    };
    let check = |spoil: &dyn Fn(&mut Program), expected: &str| check_of(BLOCK, spoil, expected);
    fn steps(p: &mut Program) -> &mut Vec<wpk_plan::Step> {
        match &mut p.buckets[0].1.body.blocks[0] {
            wpk_plan::Block::Run(steps) => steps,
            _ => panic!("a run of steps"),
        }
    }
    assert_eq!(compile(BLOCK).program.verify(), []);
    check(&|p| p.buckets[0].1.arena = 64, "leaves its memory");
    check(&|p| steps(p)[1].after.clear(), "touches memory of step 0 without waiting for it");
    check(&|p| steps(p)[0].args[0].place = Place::Input(7), "leaves its memory");
    check(&|p| steps(p)[2].args[1].place = Place::Weight(0), "is not writable");
    check(&|p| steps(p)[0].after = vec![wpk_plan::Edge { step: 2, kind: wpk_plan::EdgeKind::Full }], "which is not earlier");
    check(&|p| p.sections[0].bytes = 16, "leaves its memory");
    // Panels of eight columns have sixteen.
    check_of(&inverted_residual(48, "s"), &|p| steps(p)[0].args[3].bytes = 4 * 64 * 8, "operand 3 reaches beyond its argument");
}

#[test]
fn the_text_of_a_gpu_plan() {
    let source = parse(text::bytes(BLOCK)).expect("the model is read");
    let compiled = Model::new("m.onnx").gpu("sm_80").build_from(&source).unwrap_or_else(|d| panic!("{d}"));
    assert_eq!((compiled.program.verify(), &compiled.refused), (vec![], &vec![]));
    let gpu = &compiled.program.gpus[0];
    let families: Vec<&str> = gpu.modules.iter().map(|m| m.entry.as_str()).collect();
    assert_eq!(families, ["mma", "mma", "reduction"]);
    assert!(gpu.modules.iter().all(|m| m.text.starts_with(".version 7.0\n.target sm_80\n")));
    let text = compiled.program.to_string();
    let plan = text.split("plan for sm_80\n").nth(1).expect("the plan");
    let steps: Vec<&str> = plan.lines().filter(|l| l.contains(" = ")).collect();
    assert_eq!(steps.len(), 3, "{plan}");
    assert!(steps.iter().zip(["mma bm=", "mma bm=", "reduction results="]).all(|(s, why)| s.contains(why)), "{plan}");
    assert_eq!(Program::from_bytes(&compiled.program.to_bytes()), Ok(compiled.program));
}

#[test]
fn parts_are_made_of_whole_weights_in_panels() {
    let source = parse(text::bytes(BLOCK)).expect("the model is read");
    let program = Model::new("m.onnx").gpu("sm_80").build_from(&source).unwrap_or_else(|d| panic!("{d}")).program;
    let wrong: [fn(&mut wpk_plan::Parts); 4] =
        [|p| p.argument = 0, |p| p.argument = 7, |p| p.columns += 16, |p| (p.batch, p.depth) = (usize::MAX, usize::MAX)];
    for change in wrong {
        let mut program = program.clone();
        let parts: Vec<_> = program.gpus[0].modules.iter_mut().filter_map(|m| m.parts.as_mut()).collect();
        assert!(!parts.is_empty(), "products in strict f32 take parts");
        parts.into_iter().for_each(change);
        let faults: Vec<String> = program.verify().iter().map(ToString::to_string).collect();
        assert!(faults.iter().any(|f| f.contains("are made of no weight in panels")), "{faults:?}");
    }
}

#[test]
fn programmatic_edges_join_kernels_that_wait_themselves() {
    let compiled = |arch: &str, precision: Precision| {
        let source = parse(text::bytes(BLOCK)).expect("the model is read");
        let model = Model::new("m.onnx").gpu(arch).precision(precision);
        model.build_from(&source).unwrap_or_else(|d| panic!("{d}")).program
    };
    let early = |p: &Program| {
        let steps = p.gpus[0].plans[0].body.steps();
        steps.iter().flat_map(|s| &s.after).filter(|e| e.kind == EdgeKind::Programmatic).count()
    };
    let mut half = compiled("sm_90a", Precision::Fp16);
    assert!(early(&half) > 0);
    assert_eq!((early(&compiled("sm_80", Precision::Fp16)), early(&compiled("sm_90a", Precision::Fp32))), (0, 0));
    assert_eq!(half.verify(), []);
    half.gpus[0].modules.iter_mut().for_each(|m| m.overlaps = false);
    let faults: Vec<String> = half.verify().iter().map(ToString::to_string).collect();
    assert!(faults.iter().any(|f| f.contains("starts before a step that it depends on has ended")), "{faults:?}");
}

#[test]
fn steps_without_a_gpu_kernel_are_named() {
    let source = parse(text::bytes("input x f32 2x600000001\ny = Softmax(x) axis=1\noutput y")).expect("the model is read");
    let compiled = Model::new("m.onnx").gpu("sm_80").build_from(&source).unwrap_or_else(|d| panic!("{d}"));
    let expected = vec!["Softmax#0: no kernel: no rows schedule fits".to_owned()];
    assert_eq!((compiled.program.gpus, compiled.refused), (vec![], vec![("sm_80", expected)]));
    let wrong = Model::new("m.onnx").gpu("sm_99").build_from(&source).err().expect("an error").to_string();
    assert!(wrong.contains("there is no GPU architecture \"sm_99\"") && wrong.contains("sm_90a"), "{wrong}");
}

#[test]
fn kept_nodes_are_not_rounded_to_tf32() {
    let source = parse(text::bytes(BLOCK)).expect("the model is read");
    let model = Model::new("m.onnx").gpu("sm_80").precision(Precision::Tf32).keep_fp32("Conv#0");
    let program = model.build_from(&source).unwrap_or_else(|d| panic!("{d}")).program;
    let steps = program.gpus[0].plans[0].body.steps();
    let tf32: Vec<bool> =
        steps.iter().filter_map(|s| if let wpk_plan::Problem::Contraction(c) = s.kernel.problem() { Some(c.tf32) } else { None }).collect();
    assert_eq!(tf32, [false, true]);
}
