//! A kernel on the GPU of this machine, as a plan of one step.

use std::sync::OnceLock;
use wpk_kernels::arch::Arch;
use wpk_kernels::ptx::{Kernel, Stmt};
use wpk_plan::problem::{Operand, Problem};
use wpk_plan::{Arg, Block, Body, DType, GpuPlans, Place, Plan, Port, Program, Role, Section, Step, WeightLayout};
use wpk_rt::{Device, Model, Weights};

/// The outputs of a kernel that was made for sm_75, sm_80 or sm_90a; nothing unless `WPK_GPU=on` asks for it.
pub fn run(problem: &Problem, layout: WeightLayout, kernel: &Kernel, inputs: &[Vec<u8>]) -> Option<Result<Vec<Vec<u8>>, String>> {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    let there = || std::env::var("WPK_GPU").is_ok_and(|v| v == "on");
    PRESENT.get_or_init(there).then(|| execute(problem, layout, kernel, inputs).map_err(|e| e.to_string()))
}

fn execute(problem: &Problem, layout: WeightLayout, kernel: &Kernel, inputs: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, wpk_rt::Error> {
    let port = |o: &Operand| Port {
        name: String::new(),
        dtype: o.dtype,
        shape: vec![o.view.span().map_or(0, |s| s.1)],
        bounds: vec![],
        role: Role::Own,
    };
    // What a kernel takes in parts is made of a weight; everything else is given as an input.
    let weight = kernel.parts.as_ref().map(|p| p.argument as usize);
    let read = |(o, bytes): (&Operand, &Vec<u8>)| Port { shape: vec![bytes.len() / o.dtype.bytes()], ..port(o) };
    let (reads, writes): (Vec<Port>, Vec<Port>) =
        (problem.inputs().iter().zip(inputs).map(read).collect(), problem.outputs().iter().map(port).collect());
    let given: Vec<Port> = (0..).zip(&reads).filter(|r| Some(r.0) != weight).map(|r| r.1.clone()).collect();
    let blob = weight.map_or(vec![], |w| inputs[w].clone());
    let section = |w: usize| Section {
        offset: 0,
        bytes: blob.len(),
        dtype: reads[w].dtype,
        layout,
        shape: vec![blob.len() / reads[w].dtype.bytes()],
    };
    let sections = weight.map(section).into_iter().collect();
    let mut args: Vec<Arg> = vec![];
    args.extend(reads.iter().zip(0..).map(|(p, i)| {
        let place = match weight {
            Some(w) if w == i as usize => Place::Weight(0),
            Some(w) if w < i as usize => Place::Input(i - 1),
            _ => Place::Input(i),
        };
        Arg { place, dtype: p.dtype, bytes: p.bytes() }
    }));
    args.extend(writes.iter().zip(0..).map(|(p, i)| Arg { place: Place::Output(i), dtype: p.dtype, bytes: p.bytes() }));
    let own = [(0, kernel.workspace), (kernel.workspace.next_multiple_of(64), kernel.zeroed)];
    let own = own.into_iter().filter(|o| o.1 > 0);
    args.extend(own.map(|(at, bytes)| Arg { place: Place::Arena(at), dtype: DType::U8, bytes }));
    let step = |kernel: wpk_plan::Kernel, args: &[Arg]| Step {
        kernel,
        args: args.to_vec(),
        after: vec![],
        origin: "a test".to_owned(),
        why: String::new(),
    };
    let plan = |target: &str, step: Step| Plan {
        target: target.to_owned(),
        inputs: given.clone(),
        outputs: writes.clone(),
        arena: kernel.workspace.next_multiple_of(64) + kernel.zeroed,
        zeroed: kernel.zeroed,
        body: Body { blocks: vec![Block::Run(vec![step])] },
    };
    let latest = kernel.groups() || kernel.cluster > 1 || kernel.body.contains(&Stmt::WaitDependencies);
    let arch = Arch::named(if latest { "sm_90a" } else { "sm_80" }).expect("an architecture");
    let module = kernel.module(arch);
    let gpu = plan(arch.target, step(wpk_plan::Kernel::Gpu(problem.clone(), layout, 0), &args));
    let cpu = plan("cpu", step(wpk_plan::Kernel::Cpu(problem.clone(), layout), &args[..reads.len() + writes.len()]));
    let program = Program {
        name: "test".to_owned(),
        dims: vec![],
        buckets: vec![(vec![], cpu)],
        cpus: vec![],
        gpus: vec![GpuPlans { arch: arch.target.to_owned(), plans: vec![gpu], modules: vec![module] }],
        sections,
    };
    let model = Model::new(program, Weights::Owned(blob), Device::Cuda(0))?;
    let slices: Vec<&[u8]> = (0..).zip(inputs).filter(|i| Some(i.0) != weight).map(|i| i.1.as_slice()).collect();
    let mut results: Vec<Vec<u8>> = writes.iter().map(|p| vec![0; p.bytes()]).collect();
    model.run(0, &slices, &mut results.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>())?;
    Ok(results)
}
